//! Files of one node change behind its back. It must refuse to start, saying why and what to do, or
//! repair itself; then whatever an operator would do is done. What it had synced is lost to Raft, so
//! the other two nodes must have all of it before (see `budget`).

use super::{Act, Fault};
use crate::random::Random;
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What a damaged node may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// Only refuse to start.
    Refuse,
    /// Only start, and need nobody's help.
    Run,
    /// Either; a part that it never reads may go unnoticed.
    Both,
}

pub async fn flip_log(act: &mut Act) -> Result<()> {
    damage(act, "a bit in its Raft log flips", May::Refuse, |folder, random| {
        flip_in(&folder.join("raft"), "wal", random)
    })
    .await
}

pub async fn flip_state(act: &mut Act) -> Result<()> {
    damage(act, "a bit in its applied state flips", May::Both, |folder, random| {
        flip_in(&folder.join("state"), "", random)
    })
    .await
}

pub async fn flip_identity(act: &mut Act) -> Result<()> {
    damage_file(act, "node.json").await
}

pub async fn flip_key(act: &mut Act) -> Result<()> {
    damage_file(act, "signing.key").await
}

pub async fn truncate_log(act: &mut Act) -> Result<()> {
    damage(act, "its Raft log loses its second half", May::Both, |folder, _| {
        cut(&largest(&folder.join("raft"), "wal")?, |length| length / 2)
    })
    .await
}

pub async fn truncate_state(act: &mut Act) -> Result<()> {
    damage(act, "the largest file of its state loses its second half", May::Both, |folder, _| {
        cut(&largest(&folder.join("state"), "")?, |length| length / 2)
    })
    .await
}

pub async fn torn_tail(act: &mut Act) -> Result<()> {
    damage(act, "its Raft log ends in a half-written record", May::Run, |folder, random| {
        let file = newest(&folder.join("raft"), "wal")?;
        if random.below(2) == 0 {
            let missing = 1 + random.below(7) as u64;
            return cut(&file, |length| length.saturating_sub(missing));
        }
        let zeros = 1 + random.below(4096) as u64;
        cut(&file, |length| length + zeros)
    })
    .await
}

/// Takes a node down in good order, harms its folder, starts it, and sees what it does about it.
async fn damage(
    act: &mut Act,
    detail: &str,
    may: May,
    harm: impl FnOnce(&Path, &mut Random) -> Result<String>,
) -> Result<()> {
    let node = act.any_node();
    take_down(act, &node).await?;
    let folder = act.cluster().node(&node)?.folder.clone();
    let fault = act.begin(std::slice::from_ref(&node), detail);
    let done = harm(&folder, &mut act.random)?;
    judge(act, fault, &node, may, &done, || forget(&folder)).await
}

/// The same for one small file, which the operator has a copy of.
async fn damage_file(act: &mut Act, name: &str) -> Result<()> {
    let node = act.any_node();
    take_down(act, &node).await?;
    let file = act.cluster().node(&node)?.folder.join(name);
    let copy = fs::read(&file)?;
    let fault = act.begin(std::slice::from_ref(&node), &format!("a bit in its {name} flips"));
    let done = flip(&file, &mut act.random)?;
    let restore = || {
        fs::write(&file, &copy)?;
        super::recovery::sync(&file)
    };
    judge(act, fault, &node, May::Refuse, &done, restore).await
}

/// Ends a node once the others of its cloud have everything that it may have acknowledged.
pub async fn take_down(act: &Act, node: &str) -> Result<()> {
    act.cluster().settle(act.cloud).await?;
    act.cluster().kill(&[node.to_owned()])?;
    act.cluster().settle_without(act.cloud, Some(node)).await
}

/// Starts the node: it refuses, and is repaired by hand, or it runs.
async fn judge(
    act: &Act,
    fault: Fault,
    node: &str,
    may: May,
    done: &str,
    repair: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let from = act.cluster().log_length(node);
    act.cluster().start(node)?;
    let settled = act.cluster().settle(act.cloud).await;
    let log = act.cluster().log_since(node, from);
    if act.cluster().ended(node)?.is_some() {
        let words = act.cluster().last_words(node);
        fault.prove(format!("{done}; refused: {words}"));
        if log.contains("panicked at") || !words.starts_with("tercetd: ") {
            act.violated("damage is refused with a reason, not a panic", format!("{done}; {words}"));
        }
        if may == May::Run {
            act.violated("a torn tail never keeps a node from starting", format!("{done}; {words}"));
        }
        repair()?;
    } else {
        settled?;
        let notice =
            log.lines().find(|line| line.contains("ERROR") || line.contains("WARN")).unwrap_or("nothing was said");
        fault.prove(format!("{done}; it runs: {notice}"));
        if may == May::Refuse {
            act.violated("damage to what cannot be rebuilt is refused", format!("{done}; {node} runs: {notice}"));
        }
    }
    fault.end();
    act.cluster().bring_back(&[node.to_owned()]).await
}

/// What the refusal asks for: the node fetches log and state again.
pub fn forget(folder: &Path) -> Result<()> {
    for part in ["raft", "state"] {
        let part = folder.join(part);
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        }
    }
    Ok(())
}

/// Flips a bit in a file whose name ends so.
fn flip_in(folder: &Path, ending: &str, random: &mut Random) -> Result<String> {
    let files: Vec<PathBuf> = files(folder, ending)?.into_iter().filter(|file| data_length(file) >= 16).collect();
    ensure!(!files.is_empty(), "{} holds nothing that could be damaged", folder.display());
    let file: &PathBuf = random.choose(&files);
    flip(file, random)
}

fn flip(path: &Path, random: &mut Random) -> Result<String> {
    // Not in the last quarter: the end of a log is where a torn record may lie.
    let at = random.below((data_length(path) as usize * 3 / 4).max(1)) as u64;
    let bit = random.below(8);
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ (1 << bit)], at)?;
    file.sync_all()?;
    Ok(format!("bit {bit} of byte {at} of {}", name(path)))
}

/// Gives a file another length, counted without the zeros at its end.
fn cut(path: &Path, to: impl FnOnce(u64) -> u64) -> Result<String> {
    let length = data_length(path);
    let new = to(length);
    let file = OpenOptions::new().write(true).open(path)?;
    // Down to what is written first, so that what is added is zeros.
    file.set_len(length.min(new))?;
    file.set_len(new)?;
    file.sync_all()?;
    Ok(format!("{} has {new} bytes in place of {length}", name(path)))
}

/// Up to the last byte that is not zero: files may be longer than what was written.
fn data_length(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

fn largest(folder: &Path, ending: &str) -> Result<PathBuf> {
    let files = files(folder, ending)?;
    files.into_iter().max_by_key(|file| data_length(file)).with_context(|| format!("{} is empty", folder.display()))
}

/// The last one by name, in which the log goes on.
fn newest(folder: &Path, ending: &str) -> Result<PathBuf> {
    files(folder, ending)?.into_iter().next_back().with_context(|| format!("{} is empty", folder.display()))
}

/// All files below a folder whose name ends so, sorted; none that only marks or locks.
fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, ending)?);
        } else if name(&path).ends_with(ending) && name(&path) != "node.json" {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_changes_one_bit_and_a_cut_only_the_length() {
        let folder = std::env::temp_dir().join(format!("tercet-damage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("log.wal");
        let (mut before, mut random) = (vec![7; 100], Random::new(1, 1));
        before.extend([0; 50]);
        fs::write(&file, &before).unwrap();
        assert_eq!(data_length(&file), 100);
        flip_in(&folder, "wal", &mut random).unwrap();
        let after = fs::read(&file).unwrap();
        let bits: u32 = before.iter().zip(&after).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, after.len()), (1, 150));
        cut(&file, |length| length + 9).unwrap();
        assert_eq!(fs::read(&file).unwrap()[..100], after[..100]);
        assert_eq!((data_length(&file), fs::metadata(&file).unwrap().len()), (100, 109));
        cut(&file, |length| length / 2).unwrap();
        assert_eq!(fs::read(&file).unwrap(), after[..50]);
        fs::remove_dir_all(folder).unwrap();
    }
}
