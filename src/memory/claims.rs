//! Who runs which run. Pure.

use std::collections::HashMap;
use std::sync::Weak;

use super::commit::Claim;
use crate::run::RunId;

/// The claims on unfinished runs.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: HashMap<RunId, Weak<()>>,
    /// At this size, claims that have ended are forgotten.
    tidy_at: usize,
}

impl Claims {
    /// Gives the run to this claim, unless another holds it.
    pub(crate) fn grant(&mut self, run_id: &RunId, claim: &Claim) -> bool {
        let claim = claim.watch();
        if let Some(holder) = self.held.get(run_id)
            && holder.strong_count() > 0
            && !holder.ptr_eq(&claim)
        {
            return false;
        }
        if self.held.len() >= self.tidy_at {
            self.held.retain(|_, holder| holder.strong_count() > 0);
            self.tidy_at = 2 * self.held.len() + 64;
        }
        self.held.insert(run_id.clone(), claim);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let (run_id, mut claims) = (RunId::random(), Claims::default());
        let (first, second) = (Claim::new(), Claim::new());
        assert!(claims.grant(&run_id, &first) && claims.grant(&run_id, &first));
        assert!(!claims.grant(&run_id, &second));
        drop(first);
        assert!(claims.grant(&run_id, &second));
        drop(second);
        assert!(claims.grant(&run_id, &Claim::new()));
    }

    #[test]
    fn ended_claims_do_not_pile_up() {
        let mut claims = Claims::default();
        for _ in 0..10_000 {
            assert!(claims.grant(&RunId::random(), &Claim::new()));
        }
        assert!(claims.held.len() < 200);
    }
}
