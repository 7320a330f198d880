/// Makes a module of tests that check a store against everything that every [`Store`](crate::Store) promises, also one that
/// never removes anything: one whose [`collect`](crate::Store::collect) is the default. What a `collect` of its own must do
/// [`retention_conformance!`](crate::retention_conformance) checks.
///
/// The second argument makes a new, empty place for a store, as a function that opens it. That one is called again
/// after the store was dropped, and must then find what was stored. The feature `testing` has to be on.
///
/// ```
/// use lunacore::testing::SharedStore;
/// use lunacore::{VolatileStore, store_conformance};
///
/// store_conformance!(volatile, || {
///     let store = SharedStore::new(VolatileStore::default());
///     move || store.clone()
/// });
/// ```
#[macro_export]
macro_rules! store_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "what the expression names may be paths")]
            use super::*;

            $crate::store_conformance! { @tests $place;
                a_commit_is_stored_whole
                events_are_numbered_without_a_gap
                a_known_run_is_refused_alone
                versions_are_not_used_again
                runs_are_listed_in_the_order_of_acceptance
                outputs_come_back_as_they_were
                history_comes_back_as_it_was_told
                keys_are_listed_in_order
                records_follow_their_runs
                puts_keep_what_they_were_given
                a_batch_that_was_not_ended_is_all_or_nothing
                commits_that_come_together_are_as_one_by_one
                a_view_sees_what_is_stored
                a_view_follows_what_is_withdrawn
                what_was_stored_is_there_when_it_is_opened_again
                breakers_are_kept_as_they_were_told
                a_commit_stores_the_breakers_that_change_with_it
                breakers_of_a_batch_that_was_not_ended_are_all_or_nothing
                what_a_run_waits_for_is_kept
                what_a_run_undoes_is_kept
                a_generation_keeps_what_counts_and_forgets_nothing
                a_generation_may_have_another_plan
                a_generation_may_follow_any_state
                a_generation_of_an_unknown_run_is_refused_alone
                what_is_in_doubt_is_kept
                signals_are_kept_until_they_are_taken
                what_signals_take_is_told
                a_signal_to_an_unknown_run_is_refused_alone
                signals_of_a_batch_that_was_not_ended_are_all_or_nothing
                what_was_skipped_is_known
                what_somebody_completed_was_not_skipped
                everything_is_kept_by_default
                what_is_not_over_stays_whole
                what_is_tried_again_stays_whole
            }
        }
    };
    (@tests $place:expr; $($check:ident)*) => {$(
        #[test]
        fn $check() {
            let place = $place;
            let open = place();
            $crate::testing::conformance::$check(open);
        }
    )*};
}

/// Makes a module of tests that check what [`collect`](crate::Store::collect) removes, for stores that do not keep everything. It takes
/// what [`store_conformance!`](crate::store_conformance) takes, and is to be used beside that.
///
/// ```
/// use lunacore::testing::SharedStore;
/// use lunacore::{VolatileStore, retention_conformance};
///
/// retention_conformance!(volatile_retention, || {
///     let store = SharedStore::new(VolatileStore::default());
///     move || store.clone()
/// });
/// ```
#[macro_export]
macro_rules! retention_conformance {
    ($name:ident, $place:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "what the expression names may be paths")]
            use super::*;

            $crate::store_conformance! { @tests $place;
                old_versions_go
                finished_runs_go_and_others_stay
                finished_runs_go_by_either_rule
                what_numbers_go_on_from_stays
                old_events_go_from_the_front
                collecting_is_all_or_nothing
                two_retentions_in_turns_come_to_their_ends
                what_is_written_behind_a_collection_goes_too
                a_batch_that_collects_keeps_to_its_limit
                a_view_follows_what_is_collected
            }
        }
    };
}
