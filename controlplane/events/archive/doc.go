// Package archive keeps the event streams of finished jobs in the object store,
// and reads them there as if they were still in the event log: Log is an
// events.Log over another one, without a seam where the archive ends.
//
// # Format
//
// A part is a file of zstd frames (RFC 8878), each of about 1 MiB of JSON lines,
// so that any zstd program reads the whole of it and this package reads any
// place. Behind them stands a skippable frame (RFC 8878, 3.1.2) with the index:
// JSON, its length in 4 bytes and the 4 bytes "TMEI", little-endian. A line is
// an event's JSON as the API gives it.
//
// A part's key has its last number and its hash: what two leaders write at a
// time cannot be taken for each other, and no key is written twice. Copies stand
// under JOB/events.jsonl.zst, for people; further parts of a job that was resumed
// under JOB/events.2.jsonl.zst and so on.
//
// The package knows nothing of jobs' states: who calls it says when a stream is
// to be archived, and keeps what it returns.
package archive
