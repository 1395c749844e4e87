//! Whatever a cloud keeps as evidence convinces a stranger who has public keys only.

use super::{Verdict, Views};

pub fn check(views: &Views<'_>) -> Verdict {
    for view in views.clouds {
        for (id, proof) in &view.evidence {
            if let Err(error) = &proof.verified {
                return Err(format!("{} holds {id} against {}: {error}", view.cloud, proof.cloud));
            }
        }
    }
    Ok(())
}
