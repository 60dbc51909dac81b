package records

import (
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/clean"
)

// Classes joins the spellings of labels to classes.
type Classes struct {
	byLabel map[string]int // a spelling's class
	byKey   map[string]int
	All     []Class
}

// Class is one label with its spellings.
type Class struct {
	Key       string
	Rows      int64
	Spellings map[string]int64
	FirstRow  int64
}

// Of counts a row with a label and returns its class's index in All.
func (c *Classes) Of(label string, row int64) int {
	i, ok := c.byLabel[label]
	if !ok {
		label = strings.Clone(label) // a cell keeps its row's memory
		if c.byLabel == nil {
			c.byLabel, c.byKey = map[string]int{}, map[string]int{}
		}
		key := clean.LabelKey(label)
		if key == "" {
			key = label // a label of hyphens alone
		}
		if i, ok = c.byKey[key]; !ok {
			i = len(c.All)
			c.byKey[key] = i
			c.All = append(c.All, Class{Key: key, Spellings: map[string]int64{}, FirstRow: row})
		}
		c.byLabel[label] = i
	}
	c.All[i].Rows++
	c.All[i].Spellings[label]++
	return i
}

// Index gives the class of a label that Of has seen, without counting.
func (c *Classes) Index(label string) (int, bool) {
	i, ok := c.byLabel[label]
	return i, ok
}

// Name is the spelling that most rows have; of equals the first by alphabet.
func (c *Class) Name() string {
	best, most := "", int64(0)
	for s, n := range c.Spellings {
		if n > most || n == most && s < best {
			best, most = s, n
		}
	}
	return best
}

// Variants are the other spellings, sorted.
func (c *Class) Variants() []string {
	name := c.Name()
	var others []string
	for s := range c.Spellings {
		if s != name {
			others = append(others, s)
		}
	}
	slices.Sort(others)
	return others
}
