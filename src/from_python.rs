//! The Python original, row by row: how LunaCore's `ExecutionOrchestrator` service maps to this crate.
//!
//! # Setting up
//!
//! | Python | here | what differs, and why |
//! |---|---|---|
//! | `InMemoryEventBus()`, `await bus.start()` | `EventBus::new().start()` | The actor starts at once; there is no second step to forget. |
//! | `InMemProjectMemory(acl_check=f)` | [`ProjectMemory::in_memory()`], [`.access_check(f)`] | The check gets one [`Access`] value. If it panics, access is denied. |
//! | `SimpleAllocator()` | [`SimpleAllocator`] | An actor; any actor that handles [`Resolve`] can take its place. |
//! | `ExecutionOrchestrator(bus, memory, allocator)` | [`ExecutionOrchestrator::new`]`(bus, memory, allocator).start()` | Or [`Engine::builder`] for all of it. |
//!
//! # Running a plan
//!
//! | Python | here | what differs, and why |
//! |---|---|---|
//! | `{"id": "process", "callable": f}` | [`Step::new`]`("process", f)` | |
//! | `{"callable": f}` | [`Step::unnamed`]`(f)` | The same id: `step_0`, `step_1` … |
//! | `{"id": "x"}` | [`Step::named`]`("x")` | Left to the allocator. |
//! | other entries of the dictionary | [`Step::attr`] | |
//! | `def f()`, `async def f()` | closures, `fn`, `async fn` | Told apart by type, at compile time, instead of by `iscoroutinefunction`. May take a [`StepContext`]. |
//! | `asyncio.to_thread(f)` for sync callables | the blocking pool | [`Step::inline`] calls a cheap one in place. |
//! | `await orchestrator.execute_plan(steps)` | `orchestrator.send(`[`ExecutePlan::new`]`(steps)).await??` | Two plans at once interleave in the original. Here they queue, in order; see [`ExecutionOrchestrator::max_concurrent_plans`]. |
//! | the list of results, any objects | `Vec<serde_json::Value>` | Results are values that can be stored, so that later steps, subscribers and later versions of this crate can read them back. What cannot be one (a live connection, an open file) stays inside a closure or an allocator, behind an `Arc`; see the example `custom_allocator`. |
//! | duplicate ids overwrite each other's artifacts | an error, [`InvalidPlan::DuplicateId`] | |
//! | `ValueError("No callable found in step …")` while the plan runs | [`AllocatorError::NoCallable`] before it runs | All steps are resolved first, so that no plan stops half-way for this. |
//! | the step's exception | [`PlanError::StepFailed`] | Carries the results so far, and the step's own error as its `source`. |
//!
//! # What the original only named
//!
//! | Python | here |
//! |---|---|
//! | "retry with exponential backoff" | [`Step::retry`], [`Retry`] |
//! | "timeouts" | [`Step::timeout`], [`Step::total_timeout`], [`ExecutePlan::deadline`] |
//! | "partial failure recovery" | [`Step::on_failure`], [`OnFailure`]; and a run that was cut off goes on where it was: [`ExecutePlan::run_id`] |
//! | "circuit breakers" | [`Step::breaker`], [`Breaker`] |
//! | `escalate_on_failure`, `EscalationNeededEvent(task_id, reason)` | [`Step::escalate_on_failure`], [`EventKind::EscalationNeeded`] |
//!
//! # Events
//!
//! | Python | here | what differs, and why |
//! |---|---|---|
//! | `bus.subscribe("task.*", handler)` | `bus.send(`[`Subscribe::new`]`("task.*", handler)).await??` | The same patterns ([`Pattern`]). A malformed one is an error. The answer can end the subscription. |
//! | one queue, handlers called in turn | one queue a subscriber | In the original a slow handler holds up all others, and an endless queue grows. Here queues are bounded, and what overflows is told as `subscription.lagged`. |
//! | `print` of a handler's error | logged and counted: [`Subscription::failures`] | |
//! | `TaskStartedEvent(task_id, agent_id)` | [`EventKind::TaskStarted`] | Also carries `attempt`. |
//! | `TaskCompletedEvent(task_id, result)` | [`EventKind::TaskCompleted`] | Sent when the result is stored. |
//! | `TaskFailedEvent(task_id, error)` | [`EventKind::TaskFailed`] | Also carries `kind`, `causes` and `attempt`. |
//! | `BaseEvent(type, data, id, timestamp, correlation_id)` | [`Event`] | `correlation_id` is `run_id`. In the original the default `id` and `timestamp` are made once, when the class is defined, so all events share them; here each has its own. |
//! | `await bus.emit(BaseEvent(type="x", data=…))` | `bus.send(`[`Emit`](crate::Emit)`(`[`Event::custom`]`("x", …))).await??` | The types of this crate cannot be forged. |
//!
//! # Artifacts
//!
//! | Python | here | what differs, and why |
//! |---|---|---|
//! | `await memory.get("task:process")` | `memory.send(`[`Get::latest`]`("task:process")).await??` | |
//! | `get(key, version=2)` | [`Get::version`]`(key, 2)` | |
//! | `put(key, data, meta, artifact_type=…)` | [`Put::new`]`(key, data).meta(…).artifact_type(…)` | The meta is merged over that of the version before, as in the original. |
//! | `list_versions(key)`, `delete(key, version)` | [`ListVersions`], [`Delete`] | Also [`ListKeys`]. |
//! | `tenant_id="acme", project_id="web"` | `.in_project("acme", "web")` | Also on [`ExecutePlan`]. |
//! | `artifact.data`, `artifact.meta` | the same | Data is [`ArtifactData`]: text or bytes. |
//! | the meta of a step's result grows with what was put under the key before | exactly `{"step": 0, "step_id": "process"}` | |
//! | `str(result)` as data | a JSON string without its quotes, everything else as JSON | `None` reads `null`, and `True` reads `true`. |
//!
//! [`ProjectMemory::in_memory()`]: crate::ProjectMemory::in_memory
//! [`.access_check(f)`]: crate::ProjectMemory::access_check
//! [`Access`]: crate::Access
//! [`SimpleAllocator`]: crate::SimpleAllocator
//! [`Resolve`]: crate::Resolve
//! [`ExecutionOrchestrator::new`]: crate::ExecutionOrchestrator::new
//! [`ExecutionOrchestrator::max_concurrent_plans`]: crate::ExecutionOrchestrator::max_concurrent_plans
//! [`Engine::builder`]: crate::Engine::builder
//! [`Step::new`]: crate::Step::new
//! [`Step::unnamed`]: crate::Step::unnamed
//! [`Step::named`]: crate::Step::named
//! [`Step::attr`]: crate::Step::attr
//! [`Step::inline`]: crate::Step::inline
//! [`StepContext`]: crate::StepContext
//! [`Step::retry`]: crate::Step::retry
//! [`Retry`]: crate::Retry
//! [`Step::timeout`]: crate::Step::timeout
//! [`Step::total_timeout`]: crate::Step::total_timeout
//! [`ExecutePlan::deadline`]: crate::ExecutePlan::deadline
//! [`ExecutePlan::run_id`]: crate::ExecutePlan::run_id
//! [`Step::on_failure`]: crate::Step::on_failure
//! [`OnFailure`]: crate::OnFailure
//! [`Step::breaker`]: crate::Step::breaker
//! [`Breaker`]: crate::Breaker
//! [`Step::escalate_on_failure`]: crate::Step::escalate_on_failure
//! [`EventKind::EscalationNeeded`]: crate::EventKind::EscalationNeeded
//! [`ExecutePlan`]: crate::ExecutePlan
//! [`ExecutePlan::new`]: crate::ExecutePlan::new
//! [`InvalidPlan::DuplicateId`]: crate::InvalidPlan::DuplicateId
//! [`AllocatorError::NoCallable`]: crate::AllocatorError::NoCallable
//! [`PlanError::StepFailed`]: crate::PlanError::StepFailed
//! [`Subscribe::new`]: crate::Subscribe::new
//! [`Pattern`]: crate::Pattern
//! [`Subscription::failures`]: crate::Subscription::failures
//! [`EventKind::TaskStarted`]: crate::EventKind::TaskStarted
//! [`EventKind::TaskCompleted`]: crate::EventKind::TaskCompleted
//! [`EventKind::TaskFailed`]: crate::EventKind::TaskFailed
//! [`Event`]: crate::Event
//! [`Event::custom`]: crate::Event::custom
//! [`Get::latest`]: crate::Get::latest
//! [`Get::version`]: crate::Get::version
//! [`Put::new`]: crate::Put::new
//! [`ListVersions`]: crate::ListVersions
//! [`Delete`]: crate::Delete
//! [`ListKeys`]: crate::ListKeys
//! [`ArtifactData`]: crate::ArtifactData
