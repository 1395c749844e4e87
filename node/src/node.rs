//! One running node: opens what is on disk, starts Raft, federation and the API, and stops in order.
