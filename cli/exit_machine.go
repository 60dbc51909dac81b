package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// explainMachine says what this machine refused: room on a disk, a file, an
// address to listen at. It is nil where err is of another kind. It is asked
// before the network: the system's error numbers look like errors of the
// network to package errors, since they have the methods of net.Error.
func explainMachine(err error) *failure {
	var listen *net.OpError
	var address *net.AddrError
	switch {
	case noRoom(err):
		return explainNoRoom(err)
	case errors.As(err, &listen) && listen.Op == "listen":
		return explainListen(err)
	case errors.As(err, &address) && listen == nil: // of a flag, before anybody listened or called
		return explainListen(err)
	case ofFile(err) != "":
		return &failure{code: ExitInternal, title: err.Error(), cause: err}
	}
	return nil
}

// noRoom says whether a disk is full, or the user's share of it.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// NoRoom is for verbs beside this package's: a disk is full, with where to go.
func NoRoom(hint, format string, args ...any) error {
	return &failure{code: ExitInternal, title: fmt.Sprintf(format, args...), hint: hint}
}

func explainNoRoom(err error) *failure {
	f := &failure{code: ExitInternal, title: "the disk is full", hint: "free some space on it, or choose a place on another disk", cause: err}
	if errors.Is(err, syscall.EDQUOT) {
		f.title = "this user's share of the disk is full"
	}
	if path := ofFile(err); path != "" {
		f.title += ": " + path + " cannot be written"
	}
	return f
}

// explainListen keeps the words around the error: they say what was to listen,
// and often which flag has the address.
func explainListen(err error) *failure {
	f := &failure{code: ExitUsage, title: err.Error(), cause: err}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.hint = "end the program that listens there, or choose another port; 0 takes any that is free"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		f.hint = "this machine has no such address: 127.0.0.1 is for this machine alone, 0.0.0.0 for all that reach it"
	case errors.Is(err, fs.ErrPermission):
		f.hint = "choose a port of 1024 or above: those below are for administrators"
	default:
		f.hint = "an address to listen at is HOST:PORT, such as 127.0.0.1:7700; port 0 takes any that is free"
	}
	return f
}

// ofFile is the path in an error of the file system, or nothing.
func ofFile(err error) string {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Path
	case errors.As(err, &le):
		return le.New
	}
	return ""
}

// Listen listens on TCP for a verb beside this package's; flag is the one that
// gave the address.
func Listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	f := explainListen(err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		f.title = "another program listens at " + clip(address) + " already"
	default:
		f.title = "nothing can listen at " + clip(address) + ": " + reason(err)
	}
	f.title += " (" + flag + ")"
	return nil, f
}
