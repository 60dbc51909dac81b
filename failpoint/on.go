//go:build chaos

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Folder is the variable that names the folder of orders. A file there that is
// called like a point holds what to do at it:
//
//	crash | error | delay:DURATION   and, with #N after it, only the N-th time
//
// The process that obeys renames the file to NAME.done first, so that one process
// obeys once, also where the same program is started again with the same
// environment. What is left is the proof that the point was reached.
const Folder = "TUNEMESH_FAILPOINTS"

// crossed counts, for orders with #N, how often this process came by.
var crossed struct {
	sync.Mutex
	times map[Point]int
}

// At obeys the order for a point, if there is one. Only an ordered error is
// returned; a caller that has no use for one may drop it.
func At(p Point) error {
	folder := os.Getenv(Folder)
	path := filepath.Join(folder, string(p))
	order, err := os.ReadFile(path)
	if folder == "" || err != nil {
		return nil
	}
	what, nth, counted := strings.Cut(strings.TrimSpace(string(order)), "#")
	if counted && strconv.Itoa(count(p)) != nth || os.Rename(path, path+".done") != nil {
		return nil
	}
	fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", p, what)
	pause, wait := strings.CutPrefix(what, "delay:")
	switch d, err := time.ParseDuration(pause); {
	case what == "error":
		return fmt.Errorf("failpoint %s", p)
	case what == "crash":
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {} // not a step further, however late the signal
	case wait && err == nil:
		time.Sleep(d)
	default:
		panic(fmt.Sprintf("failpoint %s: the order %q is none of crash, error, delay:DURATION", p, what))
	}
	return nil
}

func count(p Point) int {
	crossed.Lock()
	defer crossed.Unlock()
	if crossed.times == nil {
		crossed.times = map[Point]int{}
	}
	crossed.times[p]++
	return crossed.times[p]
}

// Environment is what a child process has to be given to obey the same orders,
// and to report data races where its parent does.
func Environment() []string {
	var env []string
	for _, name := range []string{Folder, "GORACE"} {
		if value := os.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}
