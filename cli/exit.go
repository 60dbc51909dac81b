package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// Exit codes of the client verbs.
const (
	ExitOK          = 0
	ExitJobFailed   = 1   // the watched job failed or was cancelled
	ExitUsage       = 2   // the command line, a config, a file or an address given is wrong
	ExitUnreachable = 3   // no server answers
	ExitRefused     = 4   // the server refused: invalid, not found, forbidden, conflict
	ExitInternal    = 5   // the server, this program or this machine failed: a full disk
	ExitInterrupted = 130 // Ctrl-C; what was started in the mesh goes on
)

// failure is an error for a person: what is wrong, where, what to do.
type failure struct {
	code   int
	title  string
	fields []api.FieldError
	hint   string
	silent bool // all was said already
	cause  error
}

func (f *failure) Error() string { return f.title }
func (f *failure) Unwrap() error { return f.cause }

// exiter is an error of a verb beside this package's that chooses the exit code
// itself; silent says that all was said already.
type exiter interface {
	error
	Exit() (code int, silent bool)
}

// usage is a wrong command line.
func usage(c *cobra.Command, format string, args ...any) error {
	return &failure{code: ExitUsage, title: fmt.Sprintf(format, args...), hint: "see `" + c.CommandPath() + " --help`"}
}

// wrong is a fault of what the user gave, with what to do about it.
func wrong(hint, format string, args ...any) error {
	return &failure{code: ExitUsage, title: fmt.Sprintf(format, args...), hint: hint}
}

// Wrong is for verbs beside this package's: a fault of what the user gave, with
// what to do about it.
func Wrong(hint, format string, args ...any) error { return wrong(hint, format, args...) }

// Unreachable is for them too: a service does not answer.
func Unreachable(hint, format string, args ...any) error {
	return &failure{code: ExitUnreachable, title: fmt.Sprintf(format, args...), hint: hint}
}

// Refused is for them too: a service understood, and says no.
func Refused(hint, format string, args ...any) error {
	return &failure{code: ExitRefused, title: fmt.Sprintf(format, args...), hint: hint}
}

// Run runs a program's command line and returns the exit code. An error goes to
// w, standard error as a rule; with --json as a problem document, the same as the
// server's, whatever is wrong: a wrong line too.
func Run(ctx context.Context, root *cobra.Command, args []string, w io.Writer) int {
	prepare(root)
	root.SetArgs(args)
	return report(w, root.ExecuteContext(ctx), wantsJSON(args))
}

// wantsJSON reads a line that may have more wrong with it than its flags tell.
func wantsJSON(args []string) bool {
	wants := false
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if name, value, given := strings.Cut(arg, "="); name == "--json" {
			yes, err := strconv.ParseBool(value)
			wants = !given || err != nil || yes
		}
	}
	return wants
}

// Report prints an error of a verb for a person and returns the exit code.
func Report(w io.Writer, err error) int { return report(w, err, false) }

func report(w io.Writer, err error, asJSON bool) int {
	if err == nil {
		return ExitOK
	}
	f := explain(err)
	if f.silent {
		return f.code
	}
	if asJSON {
		p := api.Problem{Title: f.title, Errors: f.fields, Hint: f.hint}
		var sent *api.Problem
		if errors.As(err, &sent) {
			p = *sent
			p.Hint = f.hint
		}
		data, _ := json.Marshal(p)
		fmt.Fprintf(w, "%s\n", data)
		return f.code
	}
	fmt.Fprintln(w, format.Indent("Error: ", format.Clean(f.title), table.DefaultWidth))
	for _, e := range f.fields {
		fmt.Fprintln(w, format.Indent("  "+format.Clean(e.Field)+": ", format.Clean(e.Message), table.DefaultWidth))
	}
	if f.hint != "" {
		fmt.Fprintln(w, format.Indent("Hint: ", format.Clean(f.hint), table.DefaultWidth))
	}
	return f.code
}

// explain turns any error into one for a person.
func explain(err error) *failure {
	var chosen exiter
	if errors.As(err, &chosen) {
		code, silent := chosen.Exit()
		return &failure{code: code, title: err.Error(), silent: silent, cause: err}
	}
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var p *api.Problem
	if errors.As(err, &p) {
		return explainProblem(p)
	}
	if errors.Is(err, context.Canceled) {
		return &failure{code: ExitInterrupted, title: "interrupted"}
	}
	if f := explainMachine(err); f != nil {
		return f
	}
	if f := explainNetwork(err); f != nil {
		return f
	}
	return &failure{code: ExitInternal, title: err.Error()}
}

func explainProblem(p *api.Problem) *failure {
	f := &failure{code: ExitRefused, title: p.Title, fields: p.Errors, hint: p.Hint}
	switch {
	case p.Detail == "":
	case p.Title == "" || p.Title == http.StatusText(p.Status): // "Not Found" says less than what was not found
		f.title = p.Detail
	default:
		f.title += ": " + p.Detail
	}
	hint := ""
	switch {
	case p.Outcome == "unknown":
		f.code, hint = ExitInternal, "it may or may not have taken effect: look with `tunemesh job list` before you repeat it"
	case p.Status == http.StatusUnauthorized:
		hint = "log in with `tunemesh login`, or set TUNEMESH_TOKEN"
	case p.Status == http.StatusForbidden:
		hint = "the token's role does not allow this: ask for another one"
	case p.Status == http.StatusTooManyRequests:
		hint = "the mesh has too much to do at the moment: try again in a while"
	case p.Status >= 500:
		f.code, hint = ExitInternal, "the server's log says more; trying again may help"
	}
	if f.hint == "" {
		f.hint = hint
	}
	return f
}

// explainNetwork says which server did not answer and how, or nil if err is
// none of the network's. The end of a file or of a time is the network's only
// where a request met it.
func explainNetwork(err error) *failure {
	where := ""
	var ue *url.Error
	var op *net.OpError
	var dns *net.DNSError
	var call *client.CallError
	byURL, byOp, byName := errors.As(err, &ue), errors.As(err, &op), errors.As(err, &dns)
	if !byURL && !byOp && !byName && !errors.As(err, &call) {
		return nil
	}
	if byURL {
		if u, e := url.Parse(ue.URL); e == nil {
			where = " at " + u.Scheme + "://" + u.Host
		}
	}
	const start = "start a mesh on this machine with `tunemesh dev`, or name a server with --server or TUNEMESH_SERVER"
	f := &failure{code: ExitUnreachable, cause: err, hint: start}
	var unknownCA x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var ne net.Error
	switch {
	case byName:
		f.title = fmt.Sprintf("there is no host %s", dns.Name)
	case errors.As(err, &unknownCA), errors.As(err, &wrongHost):
		f.title, f.hint = "the certificate of the server"+where+" is not trusted", "check the address; SSL_CERT_FILE names the certificates to trust"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.title = "no server answers" + where
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		f.title = "the server" + where + " did not answer in time"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.title, f.hint = "the connection to the server"+where+" broke", "check that it runs, then try again"
	case byURL && strings.Contains(ue.Err.Error(), "HTTP response to HTTPS"):
		f.title, f.hint = "the server"+where+" speaks http, not https", "write the address with http://"
	case byURL || byOp:
		f.title = "the server" + where + " cannot be reached"
	default:
		return nil
	}
	return f
}

// nobodyThere says whether err means that no server took the request.
func nobodyThere(err error) bool {
	var p *api.Problem
	return !errors.As(err, &p) && !errors.Is(err, context.Canceled) && explainMachine(err) == nil && explainNetwork(err) != nil
}

// clip keeps what a person typed short enough for a message.
func clip(s string) string { return format.Cut(format.Clean(s), 60) }
