//! The last source of chance that no seam reaches: what libraries draw from the operating system
//! themselves (openraft's election timeouts, the order in which tokio polls a `select!`, the keys of
//! hash maps). All of them go through `getrandom(2)`, so this program brings its own: on a thread
//! that simulates it gives bytes that follow from the seed, on any other the kernel's.
//!
//! Each run gets a thread of its own, because those libraries keep their generators per thread.

use crate::random::Random;
use std::cell::RefCell;

thread_local! {
    static SEEDED: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// From here on this thread draws nothing but what follows from the seed.
fn seed_this_thread(seed: u64) {
    SEEDED.with(|seeded| *seeded.borrow_mut() = Some(Random::new(seed, 900)));
}

fn fill(bytes: &mut [u8]) -> bool {
    let mut fill = |random: &mut Option<Random>| {
        let Some(random) = random else { return false };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.number().to_le_bytes()[..chunk.len()]);
        }
        true
    };
    // A thread that ends may ask once more, after its own variables are gone.
    SEEDED.try_with(|seeded| seeded.try_borrow_mut().is_ok_and(|mut random| fill(&mut random))).unwrap_or(false)
}

/// Takes the place of libc's function of this name, in this program alone.
#[allow(unsafe_code, reason = "the C library calls it by this name and with a buffer of its own")]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut libc::c_void, length: libc::size_t, flags: libc::c_uint) -> libc::ssize_t {
    if !buffer.is_null() {
        // SAFETY: as getrandom(2) demands, the caller owns `length` bytes at `buffer`.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        if fill(bytes) {
            return length as libc::ssize_t;
        }
    }
    // SAFETY: the arguments are passed on as they came; the kernel checks them.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as libc::ssize_t }
}

/// Runs `work` on a fresh thread on which all chance follows from the seed.
pub fn seeded<T: Send>(seed: u64, work: impl FnOnce() -> T + Send) -> std::thread::Result<T> {
    std::thread::scope(|scope| {
        let run = move || {
            seed_this_thread(seed);
            work()
        };
        let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, run).expect("the system can start a thread").join()
    })
}

const STACK_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    /// What libraries draw: the keys of a hash map, and bytes of the `getrandom` crate.
    fn draw() -> (u64, [u8; 16], Vec<u32>) {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).unwrap();
        let order = (0..50_u32).collect::<HashSet<_>>().into_iter().collect();
        (std::collections::hash_map::RandomState::new().hash_one(1), bytes, order)
    }

    #[test]
    fn a_seed_fixes_what_libraries_draw_themselves() {
        let of = |seed| seeded(seed, draw).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn other_threads_still_get_bytes_of_the_kernel() {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 16]);
        assert_ne!(draw(), draw());
    }
}
