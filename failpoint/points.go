package failpoint

// Point is a moment between two steps. Its name says the step that is done and
// the one that is not.
type Point string

// The control plane: the log and the state.
const (
	// A server has promised itself to a founder, who has not heard it.
	PromiseKept Point = "promise-kept-unsaid"
	// All have promised themselves, nobody has founded.
	FoundersAgreed Point = "founders-agreed-unfounded"
	// A command is in no log yet.
	CommandUnlogged Point = "command-unlogged"
	// A command is applied, and whoever asked for it has no answer.
	CommandUnanswered Point = "command-applied-unanswered"
	// Entries are in one server's log, which has told nobody.
	EntriesUnacknowledged Point = "entries-written-unacknowledged"
	// An entry is committed and not applied.
	EntryUnapplied Point = "entry-committed-unapplied"
	// An entry is applied, and nothing that waits for it knows.
	EntryUnseen Point = "entry-applied-unseen"
	// A snapshot is written and has no name yet.
	SnapshotUnnamed Point = "snapshot-written-unnamed"
	// A snapshot has its name, and what it stands for is still in the log.
	LogUntrimmed Point = "snapshot-named-log-untrimmed"
	// The state is replaced by a snapshot's, and nothing that waits for it knows.
	RestoreUnseen Point = "state-restored-unseen"
	// A backup is read and checked, and no server has it.
	BackupUnproposed Point = "backup-read-unproposed"
	// A server is elected and has not caught up with earlier terms.
	TermUnready Point = "leader-elected-unready"
)

// The control plane: jobs, events and objects.
const (
	// Placements are made, and no agent has heard.
	PlacementUnheard Point = "placement-made-unheard"
	// A report has arrived and is in no log.
	ReportUnlogged Point = "report-arrived-unlogged"
	// A report with its manifest is accepted, and the agent has no answer.
	ReportUnanswered Point = "report-accepted-unanswered"
	// A change of state is applied and not in the job's events.
	TransitionUnprojected Point = "transition-applied-unprojected"
	// It is in the job's events, and the leader does not know.
	TransitionUnnoted Point = "transition-projected-unnoted"
	// An attempt's lines are in the event log, and the agent has no answer.
	LinesUnanswered Point = "lines-appended-unanswered"
	// The copies under well-known names are made and not recorded.
	CopiesUnrecorded Point = "copies-made-unrecorded"
	// A job's events are in the object store, and the state does not know.
	ArchiveUnrecorded Point = "archive-stored-unrecorded"
	// The archive is recorded, and the event log keeps all of it.
	ArchiveUnforgotten Point = "archive-recorded-unforgotten"
	// The event log may forget, and the state keeps the transitions.
	TransitionsUntrimmed Point = "archive-finished-untrimmed"
	// A dataset's bytes are in the object store, and the state does not know.
	DatasetUnrecorded Point = "dataset-stored-unrecorded"
)

// The agent.
const (
	// The intent to run an attempt is on disk, and nothing else of it.
	AttemptUnbegun Point = "attempt-noted-unbegun"
	// All that a stage reads is there, and no shim is started.
	AttemptUnlaunched Point = "attempt-prepared-unlaunched"
	// The stage runs, and its handle is not on disk.
	HandleUnrecorded Point = "stage-started-handle-unrecorded"
	// A new agent has found a stage whose handle no record has.
	FoundUnrecorded Point = "stage-found-unrecorded"
	// A new agent has adopted a stage, and watches it not yet.
	AdoptedUnwatched Point = "stage-adopted-unwatched"
	// The event log has lines, and the agent has not noted how far.
	PositionUnnoted Point = "lines-acknowledged-position-unnoted"
	// A checkpoint is uploaded and not reported.
	CheckpointUnreported Point = "checkpoint-uploaded-unreported"
	// A checkpoint is reported and still in the queue.
	CheckpointUnsettled Point = "checkpoint-reported-unsettled"
	// The old checkpoints are gone and the downloaded one is not in their place.
	CheckpointUnplaced Point = "checkpoint-downloaded-unplaced"
	// The stage has ended, and the record does not say so.
	EndUnrecorded Point = "stage-ended-unrecorded"
	// A file is in the object store, and the list of what was sent lacks it.
	FileUnnoted Point = "file-stored-unnoted"
	// The artifacts are uploaded, and the record does not say so.
	UploadUnrecorded Point = "artifacts-uploaded-unrecorded"
	// The report is on disk and has not been sent.
	ReportUnsent Point = "report-recorded-unsent"
	// The report is accepted, and all of the attempt's files are there.
	ReportedUncleared Point = "report-accepted-uncleared"
	// One of an attempt's two files of lines has moved to where it is kept.
	SpoolHalfKept Point = "spool-half-kept"
	// The lines are kept, and the attempt's folder is there.
	SpoolKeptUncleared Point = "spool-kept-uncleared"
)

// The shim and the stage.
const (
	// The shim has claimed the start and started nothing.
	ClaimUnused Point = "start-claimed-unused"
	// The command runs, and the shim has not written down its pid.
	ChildUnrecorded Point = "command-started-unrecorded"
	// The command has ended, and no record says how.
	ExitUnrecorded Point = "command-ended-unrecorded"
	// Some files of a checkpoint have their checksums, others not.
	CheckpointHalfSealed Point = "checkpoint-half-sealed"
	// A checkpoint is whole and has no name yet.
	CheckpointUnnamed Point = "checkpoint-sealed-unnamed"
	// The adapter is written, and no result says so.
	ResultUnwritten Point = "adapter-written-result-unwritten"
)

// All lists every point.
func All() []Point {
	return []Point{
		PromiseKept, FoundersAgreed, CommandUnlogged, CommandUnanswered, EntriesUnacknowledged, EntryUnapplied, EntryUnseen,
		SnapshotUnnamed, LogUntrimmed, RestoreUnseen, BackupUnproposed, TermUnready,
		PlacementUnheard, ReportUnlogged, ReportUnanswered, TransitionUnprojected, TransitionUnnoted, LinesUnanswered,
		CopiesUnrecorded, ArchiveUnrecorded, ArchiveUnforgotten, TransitionsUntrimmed, DatasetUnrecorded,
		AttemptUnbegun, AttemptUnlaunched, HandleUnrecorded, FoundUnrecorded, AdoptedUnwatched, PositionUnnoted,
		CheckpointUnreported, CheckpointUnsettled, CheckpointUnplaced, EndUnrecorded, FileUnnoted, UploadUnrecorded, ReportUnsent,
		ReportedUncleared, SpoolHalfKept, SpoolKeptUncleared,
		ClaimUnused, ChildUnrecorded, ExitUnrecorded, CheckpointHalfSealed, CheckpointUnnamed, ResultUnwritten,
	}
}
