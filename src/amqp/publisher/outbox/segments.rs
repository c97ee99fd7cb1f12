//! Where framed messages lie: in segments, each filled from its beginning and freed when the last message in it is settled.
//!
//! A few segments of the usual size are kept for the next messages. A message that does not fit one gets a segment to
//! itself, which is freed with it.

/// The usual size: a large write, and small beside any window.
pub(super) const SEGMENT: usize = 128 * 1024;

/// Segments kept for the next messages.
const POOL: usize = 8;

/// Where a framed message lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u32,
    start: u32,
    len: u32,
}

impl Place {
    pub(super) const fn start(self) -> usize {
        self.start as usize
    }

    pub(super) const fn len(self) -> usize {
        self.len as usize
    }

    pub(super) const fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// Whether `next` begins where this ends.
    pub(super) const fn touches(self, next: Self) -> bool {
        self.segment == next.segment && self.start + self.len == next.start
    }
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Messages in it that are not settled.
    live: u32,
}

#[derive(Debug, Default)]
pub(super) struct Segments {
    all: Vec<Segment>,
    /// Indices in `all` that hold nothing.
    vacant: Vec<u32>,
    /// The one that is being filled.
    current: Option<u32>,
    pool: Vec<Vec<u8>>,
    /// Bytes in segments that hold anything unsettled.
    held: usize,
}

impl Segments {
    /// Lets `write` append a message of at most `bound` bytes.
    pub(super) fn append<E>(
        &mut self,
        bound: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Place, E> {
        let index = match self.current {
            Some(index) if self.has_space(index, bound) => index,
            _ => {
                let bytes = if bound > SEGMENT { Vec::with_capacity(bound) } else { self.pooled() };
                let index = self.insert(bytes);
                // The former one may be empty, and too small only for this message.
                if let Some(former) = self.current.replace(index) {
                    self.free_if_empty(former);
                }
                index
            }
        };
        let segment = &mut self.all[index as usize];
        let start = segment.bytes.len();
        write(&mut segment.bytes)?;
        segment.live += 1;
        let len = segment.bytes.len() - start;
        self.held += len;
        Ok(Place { segment: index, start: start as u32, len: len as u32 })
    }

    /// Moves a message out of its segment into one of its own size.
    pub(super) fn set_aside(&mut self, place: Place) -> Place {
        let message = self.get(place).to_vec();
        self.release(place);
        let len = message.len();
        let segment = self.insert(message);
        self.all[segment as usize].live = 1;
        self.held += len;
        Place { segment, start: 0, len: len as u32 }
    }

    /// The message is settled.
    pub(super) fn release(&mut self, place: Place) {
        let segment = &mut self.all[place.segment as usize];
        segment.live -= 1;
        if segment.live > 0 {
            return;
        }
        self.held -= segment.bytes.len();
        segment.bytes.clear();
        // The current one stays as it is: at a low rate every message lies at the same, cached, place.
        if self.current != Some(place.segment) || segment.bytes.capacity() > SEGMENT {
            if self.current == Some(place.segment) {
                self.current = None;
            }
            self.free_if_empty(place.segment);
        }
    }

    pub(super) fn get(&self, place: Place) -> &[u8] {
        self.slice(place.segment, place.start(), place.end())
    }

    pub(super) fn slice(&self, segment: u32, start: usize, end: usize) -> &[u8] {
        &self.all[segment as usize].bytes[start..end]
    }

    /// Where the last message in a segment ends.
    pub(super) fn filled(&self, segment: u32) -> usize {
        self.all[segment as usize].bytes.len()
    }

    /// Bytes in segments that cannot be freed yet.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Bytes allocated, the pool included.
    pub(super) fn allocated(&self) -> usize {
        let segments = self.all.iter().map(|segment| segment.bytes.capacity());
        segments.chain(self.pool.iter().map(Vec::capacity)).sum()
    }

    /// Frees the pool.
    pub(super) fn shrink(&mut self) {
        self.pool = Vec::new();
    }

    fn has_space(&self, index: u32, bound: usize) -> bool {
        let bytes = &self.all[index as usize].bytes;
        bytes.capacity() - bytes.len() >= bound
    }

    fn pooled(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_else(|| Vec::with_capacity(SEGMENT))
    }

    fn insert(&mut self, bytes: Vec<u8>) -> u32 {
        let segment = Segment { bytes, live: 0 };
        match self.vacant.pop() {
            Some(index) => {
                self.all[index as usize] = segment;
                index
            }
            None => {
                self.all.push(segment);
                (self.all.len() - 1) as u32
            }
        }
    }

    fn free_if_empty(&mut self, index: u32) {
        let segment = &mut self.all[index as usize];
        if segment.live > 0 {
            return;
        }
        let mut bytes = std::mem::take(&mut segment.bytes);
        self.vacant.push(index);
        if bytes.capacity() == SEGMENT && self.pool.len() < POOL {
            bytes.clear();
            self.pool.push(bytes);
        }
    }
}
