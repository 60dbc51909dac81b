// Package transfer moves files between a disk and an object store by presigned
// links, over connections that break, stall, or bring other bytes than were
// sent. A file above PartsFrom goes up in parts, and an upload that was cut
// short sends only what is missing; a download goes on from where it is.
//
// It must not know what a file is for, nor who makes the links: it sees links,
// sizes and hashes, and asks a Planner for more of them.
package transfer
