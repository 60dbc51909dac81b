package weights

import "bytes"

// pointer begins the file that stands for another one in a repository of Git LFS until that
// is fetched (git-lfs, docs/spec.md).
var pointer = []byte("version https://git-lfs.github.com/spec/")

// PointerFault is what to say of a file that IsPointer.
const PointerFault = "it is a pointer of Git LFS, not the file itself: fetch that with git lfs pull"

// IsPointer says whether a file begins as one of Git LFS does that stands for another.
func IsPointer(data []byte) bool { return bytes.HasPrefix(data, pointer) }
