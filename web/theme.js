// The colours that were picked, before anything is painted: the rest of the page comes later.
try {
  const picked = localStorage.getItem('optic-theme');
  if (picked === 'dark' || picked === 'light') document.documentElement.dataset.theme = picked;
} catch { /* storage is forbidden here: as the system */ }
