//! How long to wait before the next try: at once, then longer each time, with jitter and a cap.
//!
//! Only success that lasts starts it over: a connection that is accepted and dies at once, again and again, waits
//! longer and longer too.

use std::time::Duration;

/// Waits that grow.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    steady: Duration,
    tries: u32,
}

impl Backoff {
    /// No wait, then about `first`, twice that, and so on, at most `cap`. What lasted for `steady` starts it over.
    pub const fn new(first: Duration, cap: Duration, steady: Duration) -> Self {
        Self { first, cap, steady, tries: 0 }
    }

    /// The next wait: zero at first, later between half of its length and the whole of it.
    pub fn next_wait(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let doublings = self.tries.checked_sub(1);
        self.tries = self.tries.saturating_add(1);
        let Some(doublings) = doublings else { return Duration::ZERO };
        let whole = self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.cap);
        whole.mul_f64(0.5 + rng.f64() / 2.0)
    }

    /// What was tried for has lasted this long, and ended.
    pub fn lasted(&mut self, how_long: Duration) {
        if how_long >= self.steady {
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_try_is_at_once_and_the_waits_double_up_to_the_cap() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(SECOND, 10 * SECOND, SECOND);
        assert_eq!(backoff.next_wait(&mut rng), Duration::ZERO);
        for whole in [1, 2, 4, 8, 10, 10] {
            let wait = backoff.next_wait(&mut rng);
            assert!(wait >= whole * SECOND / 2 && wait <= whole * SECOND, "{wait:?} of {whole} s");
        }
        for _ in 0..100 {
            assert!(backoff.next_wait(&mut rng) <= 10 * SECOND);
        }
    }

    #[test]
    fn only_what_lasts_starts_the_waits_over() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(SECOND, 10 * SECOND, 5 * SECOND);
        backoff.next_wait(&mut rng);
        backoff.lasted(4 * SECOND);
        assert_ne!(backoff.next_wait(&mut rng), Duration::ZERO);
        backoff.lasted(5 * SECOND);
        assert_eq!(backoff.next_wait(&mut rng), Duration::ZERO);
    }
}
