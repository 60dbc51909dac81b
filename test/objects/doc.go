// Package objects runs jobs on a mesh whose object store is hostile: a proxy in
// front of the real store cuts, stalls, delays and garbles transfers, answers 500,
// 503 and stale 404, and loses answers, by a seed; agents are killed meanwhile.
// Then it looks into the store itself: what manifests name must be there, byte by
// byte, and nothing else may be left.
package objects
