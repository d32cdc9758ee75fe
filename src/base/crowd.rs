//! Connections that anybody may open: at most so many at once. Beyond it the oldest ends, so that who says at once what
//! it came for gets through a crowd that says nothing.
//!
//! Knows no socket: each connection is a task, and one that ends drops what it holds.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// The tasks of such connections, in the order in which they began.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    tasks: VecDeque<AbortHandle>,
}

impl Crowd {
    /// Nobody yet, and so many at most.
    pub fn new(most: usize) -> Crowd {
        Crowd { most, tasks: VecDeque::new() }
    }

    /// One more; where there are too many the oldest ends.
    pub fn add(&mut self, task: AbortHandle) {
        if self.tasks.len() >= self.most {
            self.tasks.retain(|it| !it.is_finished());
        }
        if self.tasks.len() >= self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks.push_back(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_ends_where_there_are_too_many_and_who_is_done_does_not_count() {
        let mut crowd = Crowd::new(2);
        let [done, first, second, third] = [false, true, true, true].map(|lasts| {
            tokio::spawn(async move {
                if lasts {
                    std::future::pending().await
                }
            })
        });
        crowd.add(done.abort_handle());
        done.await.expect("ends by itself");
        [&first, &second, &third].into_iter().for_each(|task| crowd.add(task.abort_handle()));
        assert!(first.await.expect_err("aborted").is_cancelled());
        assert!(!second.is_finished() && !third.is_finished());
    }
}
