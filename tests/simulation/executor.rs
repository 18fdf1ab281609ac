//! Runs tasks in an order that the seed chooses: of all that could go on, one is drawn.
//!
//! It lives within a tokio runtime whose clock is paused: when nothing can go on, tokio moves the clock to the next
//! timer.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use crate::random::Random;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that can go on, and whom to tell when there is one.
#[derive(Default)]
struct Ready {
    tasks: Vec<usize>,
    executor: Option<Waker>,
}

struct TaskWaker {
    task: usize,
    ready: Arc<Mutex<Ready>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().expect("no waker panics");
        if !ready.tasks.contains(&self.task) {
            ready.tasks.push(self.task);
        }
        if let Some(executor) = ready.executor.take() {
            executor.wake();
        }
    }
}

/// Runs all tasks to their end.
pub async fn run(tasks: Vec<Task>, random: Random) {
    let ready = Arc::new(Mutex::new(Ready { tasks: (0..tasks.len()).collect(), executor: None }));
    let mut left = tasks.len();
    let mut tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
    poll_fn(|context| {
        loop {
            let next = {
                let mut ready = ready.lock().expect("no waker panics");
                ready.executor = Some(context.waker().clone());
                if ready.tasks.is_empty() {
                    return Poll::Pending;
                }
                let drawn = random.below(ready.tasks.len());
                ready.tasks.swap_remove(drawn)
            };
            let Some(task) = &mut tasks[next] else { continue };
            let waker = Waker::from(Arc::new(TaskWaker { task: next, ready: ready.clone() }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                tasks[next] = None;
                left -= 1;
                if left == 0 {
                    return Poll::Ready(());
                }
            }
        }
    })
    .await;
}

/// Lets others go first, for as often as the seed says, and sometimes lets time pass.
pub async fn pause(random: &Random) {
    match random.below(8) {
        0..=3 => {}
        4..=6 => yield_once().await,
        _ => tokio::time::sleep(random.millis(20)).await,
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
