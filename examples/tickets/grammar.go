package tickets

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// expand writes one reading of a fragment: [a|b] stands for one of its
// alternatives, which may nest and be empty, and {name} for a slot.
func expand(r *rand.Rand, fragment string) string {
	var b strings.Builder
	expandInto(r, &b, fragment)
	return b.String()
}

func expandInto(r *rand.Rand, b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[':
			end, alternatives := split(s[i+1:])
			expandInto(r, b, pick(r, alternatives))
			i += end + 1
		case '{':
			end := strings.IndexByte(s[i:], '}')
			b.WriteString(slot(r, s[i+1:i+end]))
			i += end
		default:
			b.WriteByte(s[i])
		}
	}
}

// split finds the bracket that closes s and cuts what is before it at the bars
// of its own level.
func split(s string) (end int, alternatives []string) {
	depth, from := 0, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[':
			depth++
		case ']':
			if depth == 0 {
				return i, append(alternatives, s[from:i])
			}
			depth--
		case '|':
			if depth == 0 {
				alternatives = append(alternatives, s[from:i])
				from = i + 1
			}
		}
	}
	panic("tickets: a fragment lacks its closing bracket: " + s)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

// slot gives a value for the name in braces.
func slot(r *rand.Rand, name string) string {
	switch name {
	case "order":
		return fmt.Sprintf("%s%05d", pick(r, []string{"#", "LM-", "order "}), 10000+r.IntN(89999))
	case "invoice":
		return fmt.Sprintf("%s%04d", pick(r, []string{"INV-", "invoice ", "2026-"}), 1000+r.IntN(8999))
	case "amount":
		return fmt.Sprintf("%s%d.%02d", pick(r, []string{"$", "€", "$", "£"}), 4+r.IntN(180), pick(r, []int{0, 49, 50, 90, 95, 99}))
	case "n":
		return fmt.Sprint(2 + r.IntN(11))
	case "version":
		return fmt.Sprintf("%d.%d.%d", 2+r.IntN(4), r.IntN(10), r.IntN(20))
	case "time":
		return fmt.Sprintf("%02d:%02d", r.IntN(24), r.IntN(60))
	case "product":
		return pick(r, products)
	case "plan":
		return pick(r, plans)
	case "month":
		return pick(r, months)
	case "weekday":
		return pick(r, weekdays)
	case "city":
		return pick(r, cities)
	case "device":
		return pick(r, devices)
	case "browser":
		return pick(r, []string{"Chrome", "Firefox", "Safari", "Edge"})
	case "carrier":
		return pick(r, []string{"the courier", "the carrier", "the post office", "the driver", "the delivery service"})
	case "email":
		return email(r)
	case "phone":
		return phone(r)
	}
	panic("tickets: unknown slot " + name)
}

func email(r *rand.Rand) string {
	first, last := strings.ToLower(pick(r, firstNames)), strings.ToLower(pick(r, lastNames))
	first, last = ascii(first), ascii(last)
	return pick(r, []string{first + "." + last, first[:1] + last, first + fmt.Sprint(r.IntN(99))}) + "@" + pick(r, []string{"example.com", "example.org", "example.net", "mail.example.com"})
}

func phone(r *rand.Rand) string {
	area := pick(r, []string{"212", "415", "303", "617", "206"})
	line := 100 + r.IntN(100)
	switch r.IntN(3) {
	case 0:
		return fmt.Sprintf("(%s) 555-0%d", area, line)
	case 1:
		return fmt.Sprintf("+1 %s 555 0%d", area, line)
	}
	return fmt.Sprintf("%s-555-0%d", area, line)
}

func ascii(s string) string {
	return strings.NewReplacer("ä", "ae", "ö", "oe", "ü", "ue", "ß", "ss", "é", "e", "ñ", "n", "ç", "c", " ", "", "'", "").Replace(s)
}
