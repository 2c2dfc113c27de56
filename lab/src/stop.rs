//! Graceful shutdown on SIGINT and SIGTERM for commands that take long.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Handles SIGINT and SIGTERM from its return on. The first signal sets `stopped`, and the next one
/// ends the process at once.
pub(crate) fn when_asked(stopped: &'static AtomicBool) {
    let (listens, listening) = channel::<()>();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            drop(listens);
            loop {
                let code = tokio::select! {
                    biased;
                    _ = terminate.recv() => 143,
                    _ = interrupt.recv() => 130,
                };
                if stopped.swap(true, Ordering::Relaxed) {
                    process::exit(code);
                }
            }
        });
    });
    // The channel closes once the signals are handled, or if they cannot be.
    let _ = listening.recv();
}
