//! What the deployer is to hear: that something happened to files, and that a reload is wanted. Bounded, and nothing of
//! it gets lost: beyond the bound it is enough to know that there is something to look at.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events of files that are remembered one by one.
const EVENTS: usize = 256;

#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<(Mutex<News>, Condvar)>);

#[derive(Default)]
pub(super) struct News {
    pub(super) files: Vec<notify::Event>,
    /// There was more to tell of files.
    pub(super) more: bool,
    /// SIGHUP: read everything anew, changed or not.
    pub(super) reload: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.more && !self.reload
    }
}

impl Inbox {
    pub(super) fn file(&self, event: notify::Event) {
        let mut news = self.lock();
        if news.files.len() < EVENTS {
            news.files.push(event);
        } else {
            news.more = true;
        }
        self.0.1.notify_one();
    }

    pub(super) fn reload(&self) {
        self.lock().reload = true;
        self.0.1.notify_one();
    }

    /// Takes what is there; waits while there is nothing, at most `timeout`.
    pub(super) fn take(&self, timeout: Duration) -> News {
        let (mut news, _) = self
            .0
            .1
            .wait_timeout_while(self.lock(), timeout, |news| news.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *news)
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        // Plain data: a panic in between leaves nothing half-done that matters.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_folder_drowns_no_reload() {
        let inbox = Inbox::default();
        for _ in 0..2 * EVENTS {
            inbox.file(notify::Event::new(notify::EventKind::Any));
        }
        inbox.reload();
        let news = inbox.take(Duration::from_secs(60));
        assert!(news.reload && news.more && news.files.len() == EVENTS);
        assert!(inbox.take(Duration::ZERO).is_empty());
    }
}
