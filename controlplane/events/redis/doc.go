// Package redis keeps the event streams of jobs in Redis Streams: an events.Log
// for meshes whose servers share one log. Redis may run alone, behind Sentinel
// or as a Cluster.
//
// # Keys
//
// A job has two keys with one hash tag, so that they lie in one slot:
//
//	tunemesh:events:{JOB}    the stream; the event with the number N has the id N-0
//	tunemesh:events:{JOB}:n  a hash of its counters
//
// An entry has the fields s (source), n (number within the source), t (time of
// appending, Unix ms) and e (the event's JSON). The hash has last (number of the
// last event), bytes (of JSON held), gen (a random name of this stream's life)
// and one field s:SOURCE with the last number of each source.
//
// # Appending
//
// One script compares and appends (append.lua): what is stored is skipped, what
// leaves a hole is refused with the number expected next, the rest gets the next
// numbers. It runs as a whole or not at all, and Redis keeps its effects as a
// whole or not at all, so a batch whose answer was lost is sent again and stored
// once. How durable an acknowledgement is, is Redis's choice: with
// appendonly yes and appendfsync always it is on the disk.
//
// # When Redis loses events
//
// When Redis comes back empty or older than it was, counters and stream have
// gone back together. The next batch of each source is then refused with the
// number that Redis expects, its sender's spool sends from there, and the stream
// is whole again. What no sender holds any more stays lost; that is why spools
// are kept until a job is archived.
//
// Every source's lines keep their own order and numbers (Event.Fence and
// Event.SourceSeq), but how the lines of several sources interleave can be
// another: Event.Seq of the same line may change. A reader that goes on after a
// number N therefore sees nothing until the stream has passed N again, then the
// numbers N+1, N+2 and so on, each once. With one source these are exactly the
// lines that it has not seen. With several, some of the lines may be ones that it
// has seen under a number up to N, and as many of the others stand below N now; who must have each
// line exactly once goes by (Fence, SourceSeq) and reads again from 0. The log
// says in a warning that a stream went back.
//
// # Reading
//
// A job that somebody waits for has one follower in this process: one blocking
// XREAD, whose events its readers get from memory; all other reads are XRANGE.
// While a job is followed, a Read at its end is answered from memory: it has all
// that this process appended, and what another server appended once the follower
// got it, about a round trip later. That a stream was lost is noticed at this
// process's next append or within a second; until then readers may get events
// of the lost stream from memory, all of which were acknowledged.
//
// The package knows nothing of jobs' states, leases or HTTP.
package redis
