//! What an event costs, counted and not timed, so that a slower version is noticed on the noisiest machine: allocations,
//! and rows and bytes written. The bounds stand at most a quarter above what was measured.

#![allow(unsafe_code, reason = "counting what is allocated")]

mod clouds;

use clouds::{Clouds, NAMES, id};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tercet_core::command::Command;
use tercet_core::events::{self, Submission};
use tercet_core::mirrors::ChunkOutcome;
use tercet_core::tenants::TenantSignature;
use tercet_core::time::WallMillis;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const EVENTS: u64 = 512;

/// Every cloud sends its log to the others. Whether that was news to any.
fn round(clouds: &mut Clouds) -> bool {
    let mut news = false;
    for from in NAMES {
        for to in NAMES.into_iter().filter(|to| *to != from) {
            news |= matches!(clouds.send_log(&id(from), from, to), Some(ChunkOutcome::Extended { .. }));
        }
    }
    news
}

#[test]
fn an_event_costs_a_bounded_number_of_allocations_rows_and_bytes() {
    let mut clouds = Clouds::default();
    clouds.exchange(&NAMES);
    let items = |from: u64, clouds: &Clouds| -> Vec<Submission> {
        let item = |number| {
            let content = clouds.content("shop", &format!("event-{number}"), &format!("{number:0256}"));
            let signature = Some(TenantSignature::sign(&clouds.fed, &content.hash(), &clouds.tenant_key));
            Submission { content, signature }
        };
        (from..from + EVENTS).map(item).collect()
    };
    let held = |clouds: &Clouds| -> (u64, u64) {
        let rows = &clouds.clouds["gcp"].0.records.0;
        (rows.len() as u64, rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    };
    let submit = Command::Events(events::Command::Submit { created_at: WallMillis(1_000), items: items(0, &clouds) });
    let (rows, bytes) = held(&clouds);
    let before = ALLOCATIONS.load(Relaxed);
    clouds.must("gcp", submit);
    let submitted = ALLOCATIONS.load(Relaxed) - before;
    // Serving, signing, applying and settling, on all three clouds.
    while round(&mut clouds) {}
    let exchanged = ALLOCATIONS.load(Relaxed) - before - submitted;
    let (more_rows, more_bytes) = held(&clouds);
    let counts = clouds.clouds["gcp"].1.counts();
    assert_eq!(counts.sealed, EVENTS, "{counts:?}");
    let each = |count: u64| count as f64 / EVENTS as f64;
    let (rows, bytes) = (each(more_rows - rows), each(more_bytes - bytes));
    let (submitted, exchanged) = (each(submitted), each(exchanged));
    eprintln!(
        "an event: {submitted:.1} allocations to submit, {exchanged:.1} until SEALED on three clouds; {rows:.2} rows, {bytes:.0} bytes"
    );
    assert!(submitted <= 55.0 && exchanged <= 250.0, "{submitted:.1} and {exchanged:.1} allocations");
    assert!(rows <= 2.7 && bytes <= 1_250.0, "{rows:.2} rows, {bytes:.0} bytes");
}
