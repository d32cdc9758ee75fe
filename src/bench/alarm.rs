//! An alarm clock for the open loop: wakes a connection when its next operation is due.
//!
//! tokio's timer counts in milliseconds, which would show up in every latency below that; Linux's timerfd wakes within
//! some tens of microseconds. Elsewhere tokio's timer has to do.

#[cfg(target_os = "linux")]
pub use self::timerfd::Alarm;
#[cfg(not(target_os = "linux"))]
pub use self::wheel::Alarm;

#[cfg(target_os = "linux")]
mod timerfd {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// One alarm, which is set anew each time.
    #[derive(Debug)]
    pub struct Alarm {
        timer: AsyncFd<OwnedFd>,
        set: bool,
    }

    impl Alarm {
        /// An alarm that is not set. Needs a tokio runtime, and one file descriptor.
        pub fn new() -> io::Result<Alarm> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: the descriptor is open, the `AsyncFd` owns it until it is dropped, `OwnedFd` always gives the
            // same one, and nothing here closes or replaces it.
            let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
            Ok(Alarm { timer, set: false })
        }

        /// Ready once `wait` has passed since the first call after the last time it was ready.
        pub fn poll(&mut self, wait: Duration, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.set {
                // Zero would switch the timer off.
                let wait = wait.max(Duration::from_nanos(1));
                let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
                let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
                timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
                self.set = true;
            }
            loop {
                let mut guard = ready!(self.timer.poll_read_ready(cx))?;
                let mut expirations = [0; 8];
                match guard.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)) {
                    Ok(outcome) => {
                        outcome?;
                        self.set = false;
                        return Poll::Ready(Ok(()));
                    }
                    Err(_would_block) => {}
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod wheel {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use tokio::time::Sleep;

    /// One alarm, which is set anew each time.
    #[derive(Debug, Default)]
    pub struct Alarm {
        sleep: Option<Pin<Box<Sleep>>>,
    }

    impl Alarm {
        /// An alarm that is not set.
        pub fn new() -> io::Result<Alarm> {
            Ok(Alarm::default())
        }

        /// Ready once `wait` has passed since the first call after the last time it was ready.
        pub fn poll(&mut self, wait: Duration, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_wakes_after_its_time_and_can_be_set_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            for wait_us in [0, 300, 2_500] {
                let (wait, began) = (Duration::from_micros(wait_us), Instant::now());
                std::future::poll_fn(|cx| alarm.poll(wait, cx)).await.unwrap();
                assert!(began.elapsed() >= wait);
            }
        });
    }
}
