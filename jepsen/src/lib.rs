//! Fault injection: a workload of concurrent clients, a nemesis that harms real processes in a
//! seeded order, a history of everything that both did and saw, and checkers that read nothing but
//! the history. A run that did not really harm, or did too little work, is rejected: it proves
//! nothing.
//!
//! What a seed fixes is what is chosen (clouds, order, pauses), not how the machine schedules it.

pub mod checker;
pub mod history;
pub mod nemesis;
pub mod observer;
pub mod random;
pub mod smoke;
pub mod workload;
