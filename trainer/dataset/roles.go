package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/table"
)

// A column is taken if it scores at least enough and leads the next by lead.
const (
	enough = 0.35
	lead   = 0.1
)

// findRoles chooses the columns of the task: those that the config names, else by
// name and content. It refuses where two fit about equally well.
func findRoles(c contract.Config, file string, columns []Column) (Roles, error) {
	var roles Roles
	names := make([]string, len(columns))
	for i, col := range columns {
		names[i] = col.Name
	}
	f := finder{file: file, columns: columns, names: names}
	if err := f.fromConfig(c, &roles); err != nil {
		return roles, err
	}
	if c.Task == "chat" {
		if f.findMessages(c, &roles); roles.Messages.Column != "" {
			return roles, nil
		}
	}
	input, target := taskHints(c.Task)
	var err error
	// The target first: what is left is then clearer. A prompt is optional for the
	// task completion, where plain text alone can be learnt.
	if roles.Target.Column == "" {
		roles.Target, err = f.find("label_column", "target", c.Task, target, targetContent(c.Task), roles.Input.Column)
		if err != nil && c.Task == "completion" && roles.Input.Column != "" && contract.AsError(err).Code == "COLUMN_NOT_FOUND" {
			// Nothing completes the texts of the column that the config names: they are it.
			whole := roles.Input
			whole.Why += " as text_column; no column looks like what completes it, so that its texts are learned whole"
			return Roles{Target: whole}, nil
		}
		if err != nil {
			return roles, err
		}
	}
	if roles.Input.Column == "" {
		roles.Input, err = f.find("text_column", "input", c.Task, input, textContent, roles.Target.Column)
		if err != nil && c.Task == "completion" && contract.AsError(err).Code == "COLUMN_NOT_FOUND" {
			return roles, nil
		}
		if err != nil {
			return roles, err
		}
	}
	roles.Context = f.findContext(c.Task, roles)
	return roles, nil
}

type finder struct {
	file    string
	columns []Column
	names   []string
}

func (f finder) fromConfig(c contract.Config, roles *Roles) error {
	for _, r := range []struct {
		role        *Role
		name, field string
	}{{&roles.Input, c.TextColumn, "text_column"}, {&roles.Target, c.LabelColumn, "label_column"}} {
		if r.name == "" {
			continue
		}
		i, err := table.ColumnIndex(f.names, r.name, r.field, f.file)
		if err != nil {
			return err
		}
		*r.role = Role{f.names[i], 1, "named in the config"}
	}
	if roles.Input.Column != "" && roles.Input.Column == roles.Target.Column {
		return &contract.Error{Class: contract.ClassConfig, Code: "SAME_COLUMN", Message: "text_column and label_column name the same column", Column: roles.Input.Column, Field: "label_column", Hint: "the columns are: " + table.List(f.names)}
	}
	return nil
}

// findMessages takes a column of conversations.
func (f finder) findMessages(c contract.Config, roles *Roles) {
	for i, col := range f.columns {
		named := strings.EqualFold(col.Name, c.TextColumn)
		if (named || slices.Contains(conversationNames(), col.Name)) && len(col.Examples) > 0 && strings.HasPrefix(col.Examples[0], "[") {
			roles.Messages = Role{f.names[i], 1, "holds lists of messages"}
			roles.Input, roles.Target = Role{}, Role{}
			return
		}
	}
}

type scored struct {
	index                int
	total, name, content float64
}

// find scores every column for a role and takes the best if it leads clearly.
func (f finder) find(field, role, task string, h hints, content func(Column) float64, taken string) (Role, error) {
	var all []scored
	for i, col := range f.columns {
		if col.Name == taken || col.Filled == 0 {
			continue
		}
		s := scored{index: i, name: h.score(col.Name), content: content(col)}
		s.total = 0.6*s.name + 0.4*s.content
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		switch {
		case a.total > b.total:
			return -1
		case a.total < b.total:
			return 1
		}
		return 0
	})
	if len(all) == 0 || all[0].total < enough {
		return Role{}, f.refuse(field, "COLUMN_NOT_FOUND", fmt.Sprintf("no column looks like the %s of the task %s", role, task))
	}
	best := all[0]
	if len(all) > 1 && best.total-all[1].total < lead {
		other := f.names[all[1].index]
		// Two texts of which one is much longer, such as body and message_title:
		// the longer one holds what there is to learn from.
		a, b := f.columns[best.index], f.columns[all[1].index]
		switch {
		case role == "input" && a.MeanBytes > 2*b.MeanBytes:
		case role == "input" && b.MeanBytes > 2*a.MeanBytes:
			best, other = all[1], f.names[all[0].index]
		default:
			return Role{}, f.refuse(field, "AMBIGUOUS_COLUMN", fmt.Sprintf("the columns %q and %q fit about equally well as the %s of the task %s", f.names[best.index], other, role, task))
		}
		return Role{f.names[best.index], 0.5, fmt.Sprintf("longer texts than in %q, which fits as well", other)}, nil
	}
	return Role{f.names[best.index], round2(min(best.total, 0.99)), why(best, f.columns[best.index])}, nil
}

func (f finder) refuse(field, code, message string) error {
	return &contract.Error{
		Class: contract.ClassBadInput, Code: code, File: f.file, Row: 1, Field: field,
		Message: message + "; the file has: " + table.List(f.names),
		Hint:    "name it in the job's config as " + field,
	}
}

// findContext finds what stands beside the input: qa's passage, Alpaca's input.
func (f finder) findContext(task string, roles Roles) Role {
	var names []string
	switch {
	case task == "qa":
		names = []string{"context", "passage", "paragraph", "background", "document"}
	case task == "chat" && strings.EqualFold(roles.Input.Column, "instruction"):
		names = []string{"input", "context"}
	}
	for _, want := range names {
		for i, name := range f.names {
			if strings.EqualFold(name, want) && name != roles.Input.Column && name != roles.Target.Column && f.columns[i].Filled > 0 {
				return Role{name, 0.9, "by its name"}
			}
		}
	}
	return Role{}
}

func why(s scored, c Column) string {
	var reasons []string
	switch {
	case s.name >= 1:
		reasons = append(reasons, "its name says so")
	case s.name > 0:
		reasons = append(reasons, "its name hints at it")
	}
	values := fmt.Sprintf("%d different values", c.Distinct)
	if c.MoreValues {
		values = fmt.Sprintf("more than %d different values", c.Distinct)
	}
	return strings.Join(append(reasons, fmt.Sprintf("%s of %.0f bytes on average", values, c.MeanBytes)), "; ")
}

// textContent scores free text: long and hardly ever the same.
func textContent(c Column) float64 {
	if c.Numeric || c.Filled == 0 {
		return 0
	}
	length := min(max((c.MeanBytes-8)/60, 0), 1)
	variety := 1.0
	if !c.MoreValues {
		variety = min(1, 1.5*float64(c.Distinct)/float64(c.Filled))
	}
	return length * variety
}

// labelContent scores labels: short, few, and each more than once.
func labelContent(c Column) float64 {
	if c.MoreValues || c.Filled == 0 || c.MeanBytes > 60 || c.Distinct < 2 {
		return 0
	}
	perValue := float64(c.Filled) / float64(c.Distinct)
	return min(1, max(0, (perValue-1)/3))
}

func targetContent(task string) func(Column) float64 {
	if task == "classification" {
		return labelContent
	}
	return textContent
}

func round2(x float64) float64 { return float64(int(x*100+0.5)) / 100 }
