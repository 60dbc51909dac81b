//go:build linux

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
)

// crossing is how a point is reached.
type crossing struct {
	point failpoint.Point
	// by does something that leads over the point and returns the job that has to
	// succeed all the same; nil where there is none.
	by func(*crosser) (*planned, error)
	// attempts are those that a stage of the job may need; 0 means one.
	attempts int
}

// crosser leads a mesh over its points.
type crosser struct {
	mesh  *mesh
	work  *workload
	storm *storm
	ctx   context.Context
}

// cross has one process do what is ordered at a point, and waits until the job
// has ended and all processes run again.
func (c *crosser) cross(x crossing, what string) error {
	if err := c.mesh.order(x.point, what); err != nil {
		return err
	}
	p, err := x.by(c)
	if err != nil {
		return fmt.Errorf("%s: %w", x.point, err)
	}
	if err := c.mesh.obeyed(x.point, 45*time.Second); err != nil {
		return err
	}
	if p != nil {
		if err := c.succeeds(p, max(x.attempts, 1), what); err != nil {
			return fmt.Errorf("%s: %w", x.point, err)
		}
	}
	if err := c.mesh.awaitReady(60*time.Second, c.mesh.servers...); err != nil {
		return fmt.Errorf("%s: %w", x.point, err)
	}
	return nil
}

// succeeds waits for a job's success. Only a crash has a known price in attempts.
func (c *crosser) succeeds(p *planned, attempts int, what string) error {
	var d api.JobDetail
	if err := c.mesh.eventually(90*time.Second, func() (err error) {
		d, err = c.mesh.patient().Job(c.ctx, p.id)
		if err == nil && !d.State.Terminal() {
			err = fmt.Errorf("job %s is %s: %+v", p.id, d.State, d.Stages)
		}
		return err
	}); err != nil {
		return fmt.Errorf("I2: %w", err)
	}
	if d.State != api.JobSucceeded {
		return fmt.Errorf("I2: job %s is %s: %s", p.id, d.State, d.Reason)
	}
	list, err := c.mesh.patient().Attempts(c.ctx, p.id)
	if err != nil {
		return err
	}
	tries := map[string]int{}
	for _, a := range list {
		if tries[a.Stage]++; tries[a.Stage] > attempts && what == "crash" {
			return fmt.Errorf("I8: stage %s of job %s took more than %d attempts: %+v", a.Stage, p.id, attempts, list)
		}
	}
	return nil
}

// submit asks one server after another to take a job until one says yes, always
// with the same id.
func (c *crosser) submit(p *planned) (*planned, error) {
	w := c.work
	w.mu.Lock()
	w.next++
	p.id = fmt.Sprintf("01FA11%020d", w.next)
	p.spec.ID, p.spec.Name = p.id, "crossing"
	p.spec.Dataset = w.datasets[0]
	w.jobs[p.id], w.order = p, append(w.order, p.id)
	w.mu.Unlock()
	w.follow(w.life, p)
	for i := range 100 {
		if w.create(c.ctx, 4000, p, c.mesh.servers[i%len(c.mesh.servers)].url); p.acked {
			return p, nil
		}
		sleepFor(c.ctx, 100*time.Millisecond)
	}
	return nil, fmt.Errorf("I1: nobody takes the job %s", p.id)
}

// aShellJob prints some lines and leaves a file.
func aShellJob(c *crosser) (*planned, error) { return c.shell(10) }

func (c *crosser) shell(lines int) (*planned, error) {
	p := &planned{lines: lines}
	p.spec.Pipeline = &api.Pipeline{Nodes: []api.StageSpec{c.work.shellStage("only", lines, "0.05")}}
	p.spec.Pipeline.Nodes[0].MaxDisconnect = "5m"
	return c.submit(p)
}

// aTraining ends with an adapter that has to be the calm run's, bit by bit.
func aTraining(c *crosser) (*planned, error) {
	p := &planned{training: true}
	p.spec.Config, p.spec.Pipeline = []byte(tinyTraining), trainingPipeline()
	return c.submit(p)
}

// anUpload is repeated by the client until it is answered.
func anUpload(c *crosser) (*planned, error) {
	data := fmt.Sprintf("text,label\nrow of %s,a\nrow,b\n", time.Now().Format(time.RFC3339Nano))
	return nil, c.mesh.eventually(30*time.Second, func() error {
		called := c.work.history.Now()
		d, err := c.mesh.patient().UploadDataset(c.ctx, "crossing.csv", strings.NewReader(data), int64(len(data)))
		if err == nil {
			c.work.published(4000, called, d.ID)
			_, err = c.mesh.patient().Dataset(c.ctx, d.ID)
		}
		return err
	})
}

// manyWrites make servers take snapshots.
func manyWrites(point failpoint.Point) func(*crosser) (*planned, error) {
	return func(c *crosser) (*planned, error) {
		p, err := aShellJob(c)
		for deadline := time.Now().Add(40 * time.Second); err == nil && time.Now().Before(deadline); {
			if c.mesh.obeyed(point, 0) == nil {
				return p, nil
			}
			c.storm.untilWrite(10 * time.Second)
		}
		return p, err
	}
}

// aRestart kills a server, which then begins with a snapshot.
func aRestart(c *crosser) (*planned, error) {
	c.mesh.servers[1].kill(100 * time.Millisecond)
	return aShellJob(c)
}

// anElection kills the leader.
func anElection(c *crosser) (*planned, error) {
	leader := c.mesh.leader()
	if leader == nil {
		return nil, errors.New("nobody leads")
	}
	leader.kill(100 * time.Millisecond)
	return aShellJob(c)
}

// aBackup saves the state and restores it at once. The restore is repeated when
// it broke off.
func aBackup(c *crosser) (*planned, error) {
	file := filepath.Join(c.mesh.dir, "crossing.snapshot")
	if _, err := c.mesh.cli("snapshot", "save", "--force", file); err != nil {
		return nil, err
	}
	if err := c.mesh.eventually(30*time.Second, func() error {
		_, err := c.mesh.cli("snapshot", "restore", "--force", file)
		return err
	}); err != nil {
		return nil, err
	}
	return aShellJob(c)
}

// twoAgents die one after another: the first before it has noted that the stage
// runs, the second when it has found it.
func twoAgents(c *crosser) (*planned, error) {
	if err := c.mesh.order(failpoint.HandleUnrecorded, "crash"); err != nil {
		return nil, err
	}
	return c.shell(40)
}

// anAdoption kills the agent of a running stage.
func anAdoption(c *crosser) (*planned, error) {
	p, err := c.shell(60)
	if err != nil {
		return p, err
	}
	if err := c.mesh.eventually(20*time.Second, func() error {
		if len(c.mesh.trainers()) < 2 {
			return errors.New("no stage runs")
		}
		return nil
	}); err != nil {
		return p, err
	}
	c.mesh.agents[0].kill(50 * time.Millisecond)
	return p, nil
}

// aLostFolder takes an agent, its training and its checkpoints away in the middle,
// so that the next attempt has to get a checkpoint from the object store.
func aLostFolder(c *crosser) (*planned, error) {
	p, err := aTraining(c)
	if err != nil {
		return p, err
	}
	agent := c.mesh.agents[0]
	// The training stands still from its first checkpoint on: it would end before
	// that is uploaded.
	if err := c.mesh.eventually(45*time.Second, func() error {
		found, _ := filepath.Glob(filepath.Join(agent.dir, "attempts/*/events.log"))
		for _, path := range found {
			if printed, err := os.ReadFile(path); err == nil && bytes.Contains(printed, []byte(`"checkpoint":"epoch_1"`)) {
				for pid := range c.mesh.trainers() {
					_ = syscall.Kill(pid, syscall.SIGSTOP)
				}
				return nil
			}
		}
		return errors.New("no checkpoint is announced")
	}); err != nil {
		return p, err
	}
	if err := c.mesh.eventually(45*time.Second, func() error {
		d, err := c.mesh.patient().Job(c.ctx, p.id)
		if err == nil && (len(d.Stages) == 0 || len(d.Stages[len(d.Stages)-1].Checkpoints) == 0) {
			err = errors.New("no checkpoint is recorded")
		}
		return err
	}); err != nil {
		return p, err
	}
	agent.kill(time.Second)
	for pid := range c.mesh.trainers() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return p, os.RemoveAll(filepath.Join(agent.dir, "jobs", p.id))
}
