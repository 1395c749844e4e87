//! `tercetd up`: makes a federation in a data folder, runs its nodes as child processes, shows the
//! first event become FINAL and SEALED, and stays until Ctrl-C.
