// Package plan says what a training will do before it starts: the settings that
// the config leaves open, with the reason for each, the memory that they need,
// part by part, and, where that is more than there is, the nearest settings that
// would fit.
//
// It is pure: numbers of the model, the machine and the data go in, words and
// numbers come out. So the API plans a job by the same rules that the stage
// trains by. It must not know of files or the mesh, and starts no engine.
package plan
