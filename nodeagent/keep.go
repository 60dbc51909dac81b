package nodeagent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

// Spools of attempts that are over stay until the control plane has archived
// their lines: it may lose them before, with a server that led or with its
// event store, and then asks for them again.
//
//	spools/FENCE/spool.json    whose lines they are; there from the first moment
//	            /shipped.json  /events.log   as they stood in the attempt

// keptSpool is what spool.json holds.
type keptSpool struct {
	Job     string    `json:"job"`
	Stage   string    `json:"stage"`
	Attempt int       `json:"attempt"`
	Fence   uint64    `json:"fence"`
	At      time.Time `json:"at"`
}

func (a *Agent) spoolsDir() string { return filepath.Join(a.cfg.Dir, "spools") }

// keepSpool moves an attempt's lines to where they wait for the archive. It may
// be called again after a crash in its middle.
func (r *runner) keepSpool() error {
	info, err := os.Stat(r.p.events())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // nothing was printed, or it is moved already
	}
	if err != nil {
		return err
	}
	to := r.a.spoolPaths(r.as.Fence)
	if err := r.beginSpool(to.root); err != nil {
		return err
	}
	if err := os.Rename(r.p.shipped(), to.shipped()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := failpoint.At(failpoint.SpoolHalfKept); err != nil {
		return err
	}
	return os.Rename(r.p.events(), to.events())
}

// unnamed ends the name of a spool's folder that does not say yet whose it is.
const unnamed = ".new"

// beginSpool makes the folder of a kept spool, which says from its first moment
// on whose lines it holds: keepSpools removes one that does not.
func (r *runner) beginSpool(root string) error {
	if _, err := os.Stat(root); err == nil {
		return nil // before a crash
	}
	dir := root + unnamed
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	data, err := json.Marshal(keptSpool{Job: r.as.JobID, Stage: r.as.Stage.Name, Attempt: r.as.Attempt, Fence: r.as.Fence, At: time.Now().UTC()})
	if err == nil {
		err = writeFile(filepath.Join(dir, "spool.json"), data, 0o600)
	}
	if err != nil {
		return err
	}
	return os.Rename(dir, root)
}

// keepSpools looks after the spools of attempts that are over, until ctx ends.
func (a *Agent) keepSpools(ctx context.Context) {
	for sleep(ctx, a.cfg.ProbeInterval) {
		list, err := a.listSpools()
		if err != nil {
			a.cfg.Logger.Warn("kept spools cannot be read", "error", err)
			continue
		}
		for _, k := range a.boundSpools(list) {
			if ctx.Err() != nil {
				return
			}
			over, answered := a.settleSpool(ctx, k)
			if over {
				a.removeSpool(k.Fence)
			}
			if !answered {
				break // nobody is there: the next round
			}
		}
	}
}

// listSpools lists the kept spools, oldest first.
func (a *Agent) listSpools() ([]keptSpool, error) {
	entries, err := os.ReadDir(a.spoolsDir())
	if err != nil {
		return nil, err
	}
	var out []keptSpool
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unnamed) {
			continue // its attempt is still here
		}
		var k keptSpool
		data, err := os.ReadFile(filepath.Join(a.spoolsDir(), e.Name(), "spool.json"))
		if err == nil {
			err = json.Unmarshal(data, &k)
		}
		if err != nil || strconv.FormatUint(k.Fence, 10) != e.Name() {
			a.cfg.Logger.Warn("a kept spool cannot be used and is removed", "dir", e.Name(), "error", err)
			_ = os.RemoveAll(filepath.Join(a.spoolsDir(), e.Name()))
			continue
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b keptSpool) int { return cmp.Compare(a.Fence, b.Fence) })
	return out, nil
}

// boundSpools removes the oldest spools where all together are larger than they
// may be.
func (a *Agent) boundSpools(list []keptSpool) []keptSpool {
	var total int64
	for i, k := range slices.Backward(list) {
		info, err := os.Stat(a.spoolPaths(k.Fence).events())
		if err != nil {
			continue // moved in part only: its attempt is still here
		}
		if total += info.Size(); total <= a.cfg.SpoolBytes {
			continue
		}
		for _, old := range list[:i+1] {
			a.cfg.Logger.Warn("the spools reached their limit and the oldest is removed", "job", old.Job, "fence", old.Fence)
			a.removeSpool(old.Fence)
		}
		return list[i+1:]
	}
	return list
}

func (a *Agent) spoolPaths(fence uint64) paths {
	return paths{filepath.Join(a.spoolsDir(), strconv.FormatUint(fence, 10))}
}

func (a *Agent) removeSpool(fence uint64) {
	if err := os.RemoveAll(a.spoolPaths(fence).root); err != nil {
		a.cfg.Logger.Warn("a kept spool cannot be removed", "fence", fence, "error", err)
	}
}

// settleSpool asks what the control plane holds of a kept spool and sends what
// it lacks. over says that the spool is needed no longer, answered that the
// control plane was there.
func (a *Agent) settleSpool(ctx context.Context, k keptSpool) (over, answered bool) {
	p := a.spoolPaths(k.Fence)
	log := a.cfg.Logger.With("job", k.Job, "stage", k.Stage, "fence", k.Fence)
	ship, err := loadShipped(p.shipped())
	if err != nil {
		log.Warn("a kept spool's position cannot be read", "error", err)
		return false, true
	}
	reader, err := spool.Open(p.events(), ship.position(), ship.base())
	if errors.Is(err, fs.ErrNotExist) {
		return false, true
	}
	if err != nil {
		log.Warn("a kept spool cannot be read", "error", err)
		return false, true
	}
	defer reader.Close()
	stale := false
	s := &shipper{cp: a.cp, fence: k.Fence, log: log, ship: ship, reader: reader, limit: batchEvents, stale: func() { stale = true },
		source: a.sourceOf(api.Assignment{JobID: k.Job, Stage: api.StageSpec{Name: k.Stage}, Attempt: k.Attempt, Fence: k.Fence})}
	// Asked from the line after the last acknowledged one: to ask from behind lines
	// that were never taken would say that they had been, and were lost.
	if !s.probe(ctx) {
		return stale, stale
	}
	for {
		if err := s.fill(true); err != nil {
			log.Warn("a kept spool cannot be read", "error", err)
			return false, true
		}
		if len(s.batch) == 0 {
			break
		}
		if !s.send(ctx) {
			return stale, stale
		}
	}
	return s.archived, true
}
