package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/view"
)

// show is one way to present a watched job.
type show interface {
	event(*view.State, api.Event) error
	job(*view.State) error
	tick(*view.State) error
	// end shows the job as it ended, leave what stands there when a person goes.
	end(*view.State) error
	leave(*view.State)
}

func newShow(o WatchOptions) show {
	switch {
	case o.JSON:
		return jsonShow{json.NewEncoder(o.Out)}
	case o.Screen.Terminal:
		return &liveShow{o: o, d: drawing{w: o.Out}}
	}
	return &plainShow{o: o, p: view.Plain{Every: 5 * time.Second, Width: o.Screen.Width, Where: o.Now().Location()}}
}

// liveShow draws in place.
type liveShow struct {
	o      WatchOptions
	d      drawing
	frames int
}

func (s *liveShow) event(*view.State, api.Event) error { return nil } // the next tick draws it
func (s *liveShow) job(*view.State) error              { return nil }

func (s *liveShow) tick(st *view.State) error {
	s.frames++
	scr := *s.o.Screen
	if now := screenOf(s.o.Out, os.Getenv); now.Terminal { // the window may have been resized
		scr.Width, scr.Height = now.Width, now.Height
	}
	return s.d.draw(st.Lines(view.Frame{Width: scr.Width, Height: scr.Height - 1, Style: scr.Style, Now: s.o.Now(), Tick: s.frames / 2, Hint: s.o.Hint}))
}

func (s *liveShow) end(st *view.State) error {
	err := s.tick(st)
	s.d.end()
	return err
}

func (s *liveShow) leave(st *view.State) { _ = s.end(st) }

// plainShow writes lines for a pipe.
type plainShow struct {
	o       WatchOptions
	p       view.Plain
	trouble string
}

func (s *plainShow) write(lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(s.o.Out, line); err != nil {
			return err
		}
	}
	return nil
}

func (s *plainShow) event(_ *view.State, e api.Event) error { return s.write(s.p.Event(e)) }

func (s *plainShow) job(st *view.State) error {
	lines := s.p.Waits(st.Job, s.o.Now())
	if st.Trouble != s.trouble {
		if s.trouble = st.Trouble; s.trouble == "" {
			lines = append(lines, "the server answers again")
		} else {
			lines = append(lines, format.Wrap(s.trouble, s.o.Screen.Width)...)
		}
	}
	return s.write(lines)
}

func (s *plainShow) tick(*view.State) error { return nil }

func (s *plainShow) end(st *view.State) error {
	line := fmt.Sprintf("job %s %s", st.Job.ID, st.Job.State)
	if st.Job.StartedAt != nil {
		line += " after " + format.Span(st.Job.StartedAt, st.Job.FinishedAt, s.o.Now())
	}
	return s.write([]string{line})
}

func (s *plainShow) leave(*view.State) {}

// jsonShow writes one document per line.
type jsonShow struct{ e *json.Encoder }

func (s jsonShow) event(_ *view.State, e api.Event) error {
	return s.e.Encode(map[string]api.Event{"event": e})
}
func (s jsonShow) job(*view.State) error  { return nil }
func (s jsonShow) tick(*view.State) error { return nil }
func (s jsonShow) leave(*view.State)      {}
func (s jsonShow) end(st *view.State) error {
	return s.e.Encode(map[string]api.JobDetail{"job": st.Job})
}
