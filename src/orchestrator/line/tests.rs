use super::*;
use proptest::prelude::*;

proptest! {
    /// Under any interleaving plans are accepted and started in the order of their tickets, within the slots, and
    /// none is forgotten.
    #[test]
    fn fifo_under_any_interleaving(
        slots in 1_usize..4,
        moves in proptest::collection::vec((0_usize..6, 0_usize..8), 1..120),
    ) {
        let mut line = Line::new(slots, 8);
        line.open();
        let (mut resolving, mut accepting, mut withdrawing) = (Vec::new(), Vec::new(), Vec::new());
        let (mut accepted, mut started, mut running, mut gone) = (Vec::new(), Vec::new(), 0, 0);
        let mut joined = 0;
        // The moves that were drawn, then whatever brings everything to an end.
        let ending = (0..400).map(|n| (1 + n % 5, 0)).filter(|(what, _)| *what != 4);
        for (what, which) in moves.into_iter().chain(ending) {
            let pick = |from: &mut Vec<Ticket>| {
                (!from.is_empty()).then(|| from.remove(which % from.len()))
            };
            match what {
                0 => if let Some(ticket) = line.join() {
                    joined += 1;
                    resolving.push(ticket);
                },
                1 => if let Some(ticket) = pick(&mut resolving) { line.resolved(ticket); },
                2 => if let Some(ticket) = pick(&mut accepting) { line.accepted(ticket); },
                3 => if running > 0 { running -= 1; gone += 1; line.finished(); },
                4 => {
                    let ticket = line.waiting.get(which).map(|(ticket, _)| *ticket);
                    if let Some(ticket) = ticket {
                        match line.withdraw(ticket) {
                            Withdrawal::Forgotten => { resolving.retain(|t| *t != ticket); gone += 1; }
                            Withdrawal::ToStore => withdrawing.push(ticket),
                            Withdrawal::Busy => {}
                        }
                    }
                }
                _ => if let Some(ticket) = pick(&mut withdrawing) { line.remove(ticket); gone += 1; },
            }
            while let Some(next) = line.advance() {
                match next {
                    Move::Accept(ticket) => { accepted.push(ticket); accepting.push(ticket); }
                    Move::Start { ticket, accepted: stored } => {
                        prop_assert_eq!(stored, accepted.contains(&ticket));
                        started.push(ticket);
                        running += 1;
                        prop_assert!(running <= slots);
                    }
                }
            }
        }
        prop_assert!(accepted.is_sorted() && started.is_sorted());
        prop_assert_eq!(gone, joined);
        prop_assert!(line.is_idle());
    }
}

#[test]
fn a_full_line_refuses() {
    let mut line = Line::new(1, 2);
    let joined = [line.join(), line.join(), line.join(), line.join()];
    assert_eq!(joined.map(|ticket| ticket.is_some()), [true, true, true, false]);
}

#[test]
fn runs_that_return_come_first_and_need_no_place() {
    let mut line = Line::new(1, 0);
    let new = line.join().unwrap();
    line.resolved(new);
    assert_eq!(line.advance(), None, "it is not open");
    let returning = [line.rejoin(), line.rejoin()];
    line.open();
    assert_eq!(line.advance(), None, "who returns first is not resolved yet");
    line.resolved(returning[1]);
    line.resolved(returning[0]);
    assert_eq!(line.advance(), Some(Move::Start { ticket: returning[0], accepted: true }));
    assert_eq!(line.advance(), Some(Move::Accept(new)));
    assert_eq!(line.withdraw(returning[1]), Withdrawal::ToStore);
    line.remove(returning[1]);
    line.accepted(new);
    line.finished();
    assert_eq!(line.advance(), Some(Move::Start { ticket: new, accepted: true }));
}

/// A line whose plans, so many, are accepted and started as far as there are slots.
fn started(slots: usize, capacity: usize, plans: usize) -> (Line, Vec<Ticket>) {
    let mut line = Line::new(slots, capacity);
    line.open();
    let tickets: Vec<Ticket> = (0..plans).map(|_| line.join().unwrap()).collect();
    for ticket in &tickets {
        line.resolved(*ticket);
    }
    for ticket in starts(&mut line) {
        assert!(tickets.contains(&ticket));
    }
    (line, tickets)
}

/// Moves on as far as it goes; answers who is started.
fn starts(line: &mut Line) -> Vec<Ticket> {
    let mut started = Vec::new();
    while let Some(next) = line.advance() {
        match next {
            Move::Accept(ticket) => line.accepted(ticket),
            Move::Start { ticket, .. } => started.push(ticket),
        }
    }
    started
}

#[test]
fn a_run_that_steps_aside_lets_another_start() {
    let (mut line, tickets) = started(1, 8, 2);
    line.step_aside();
    assert_eq!(starts(&mut line), [tickets[1]]);
    line.finished();
    assert!(!line.is_idle(), "one stands aside");
    line.left();
    assert!(line.is_idle());
}

#[test]
fn runs_that_are_ready_come_first_and_in_their_order() {
    let (mut line, tickets) = started(2, 8, 4);
    line.step_aside();
    line.step_aside();
    assert_eq!(starts(&mut line), tickets[2..]);
    let late = line.join().unwrap();
    line.resolved(late);
    assert!(starts(&mut line).is_empty());
    let ready = [line.ready(), line.ready()];
    assert_eq!(ready.map(|ticket| line.position(ticket)), [Some(0), Some(1)]);
    assert_eq!(line.position(late), Some(2));
    line.finished();
    assert_eq!(line.advance(), Some(Move::Start { ticket: ready[0], accepted: true }));
    line.finished();
    line.finished();
    assert_eq!(starts(&mut line), [ready[1], late]);
    line.finished();
    line.finished();
    assert!(line.is_idle());
}

#[test]
fn who_is_not_ready_after_all_stands_aside_again() {
    let (mut line, _) = started(1, 8, 1);
    line.step_aside();
    let blocker = line.join().unwrap();
    line.resolved(blocker);
    assert_eq!(starts(&mut line), [blocker]);
    let ready = line.ready();
    line.not_ready(ready);
    assert_eq!(line.position(ready), None);
    line.finished();
    assert!(starts(&mut line).is_empty());
    assert!(!line.is_idle());
    let again = line.ready();
    assert!(again > ready);
    assert_eq!(starts(&mut line), [again]);
    line.finished();
    assert!(line.is_idle());
}

#[test]
fn a_plan_may_stand_aside_without_having_had_a_slot() {
    let (mut line, tickets) = started(1, 8, 2);
    line.leave_for_aside(tickets[1]);
    line.finished();
    assert!(starts(&mut line).is_empty());
    let ready = line.ready();
    assert_eq!(starts(&mut line), [ready]);
    line.finished();
    assert!(line.is_idle());
}

#[test]
fn who_stands_aside_has_a_place_of_the_capacity() {
    let (mut line, _) = started(1, 2, 1);
    line.step_aside();
    // The one aside has one of two places; the free slot takes one more.
    let joined = [line.join(), line.join(), line.join()];
    assert_eq!(joined.map(|ticket| ticket.is_some()), [true, true, false]);
    line.left();
    assert!(line.join().is_some() && line.join().is_none());
    // Who is ready needs no place.
    let (mut line, _) = started(1, 0, 1);
    line.step_aside();
    assert!(line.join().is_none());
    let ready = line.ready();
    assert_eq!(starts(&mut line), [ready]);
}

proptest! {
    /// Whoever steps aside and comes back: never more than the slots, none is lost, and no slot is.
    #[test]
    fn slots_are_counted_right_whoever_stands_aside(
        slots in 1_usize..4,
        moves in proptest::collection::vec((0_usize..6, 0_usize..8), 1..120),
    ) {
        let mut line = Line::new(slots, 8);
        line.open();
        let (mut running, mut aside, mut joined, mut gone) = (0, 0, 0, 0);
        let mut ready: Vec<Ticket> = Vec::new();
        let ending = (0..400).map(|n| ([1, 3, 5][n % 3], 0));
        for (what, which) in moves.into_iter().chain(ending) {
            match what {
                0 => if let Some(ticket) = line.join() { joined += 1; line.resolved(ticket); },
                1 if running > 0 => { running -= 1; gone += 1; line.finished(); }
                2 if running > 0 => { running -= 1; aside += 1; line.step_aside(); }
                3 if aside > 0 => { aside -= 1; ready.push(line.ready()); }
                4 if !ready.is_empty() => {
                    let ticket = ready.remove(which % ready.len());
                    aside += 1;
                    line.not_ready(ticket);
                }
                5 if aside > 0 && which == 7 => { aside -= 1; gone += 1; line.left(); }
                _ => {}
            }
            for ticket in starts(&mut line) {
                running += 1;
                if let Some(place) = ready.iter().position(|other| *other == ticket) {
                    prop_assert_eq!(place, 0, "in their order");
                    ready.remove(place);
                } else {
                    prop_assert!(ready.is_empty(), "they come first");
                }
            }
            prop_assert!(running <= slots);
            prop_assert!(ready.is_empty() || running == slots, "a slot is free, and somebody waits for one");
        }
        prop_assert_eq!((gone, running, aside), (joined, 0, 0));
        prop_assert!(line.is_idle());
    }
}
