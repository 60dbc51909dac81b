package pii

import "unicode/utf8"

// group is a run of digits with what separates it from the one before.
type group struct {
	separator  string
	start, end int
}

func (g group) size() int { return g.end - g.start }

// maxGroups is more than any number has that is found here.
const maxGroups = 10

// numberAt finds a card, social security or telephone number that starts at i.
func numberAt(text string, i int) (Match, bool) {
	if i > 0 {
		before := text[i-1]
		// A part of something longer: a word, a reference, an amount, a date.
		if isLetter(before) || isDigit(before) || before >= utf8.RuneSelf && isDigit(text[i]) && letterBefore(text, i) || before == '_' || before == '#' || before == '-' || before == '/' || before == '$' {
			return Match{}, false
		}
		if (before == '.' || before == ',') && i > 1 && isDigit(text[i-2]) {
			return Match{}, false
		}
	}
	var space [maxGroups]group
	plus, parenthesis, groups := groupsAt(text, i, space[:0])
	if len(groups) == 0 {
		return Match{}, false
	}
	if !plus && !parenthesis {
		if end, ok := card(text, groups); ok {
			return Match{Card, i, end}, true
		}
		if end, ok := ssn(text, groups); ok {
			return Match{SSN, i, end}, true
		}
	}
	if end, ok := phone(text, groups, plus, parenthesis); ok {
		return Match{Phone, i, end}, true
	}
	return Match{}, false
}

func letterBefore(text string, i int) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:i])
	return european(r)
}

// groupsAt reads digit groups with at most two separating characters between
// them, of those that people put into numbers.
func groupsAt(text string, i int, groups []group) (plus, parenthesis bool, _ []group) {
	if i < len(text) && text[i] == '+' {
		plus = true
		i++
	}
	at := i
	for at < len(text) && at-i < 1 && text[at] == '(' {
		parenthesis = true
		at++
	}
	from := i
	for len(groups) < maxGroups {
		start := at
		for at < len(text) && isDigit(text[at]) {
			at++
		}
		if at == start {
			break
		}
		groups = append(groups, group{text[from:start], start, at})
		from = at
		for at < len(text) && at-from < 3 && isSeparator(text[at]) {
			at++
		}
		if at == from {
			break
		}
	}
	return plus, parenthesis, groups
}

func isSeparator(c byte) bool {
	return c == ' ' || c == '-' || c == '.' || c == '(' || c == ')' || c == '/'
}

// ends says whether a number may end at i: no digit or letter goes on.
func ends(text string, i int) bool {
	return i == len(text) || !isDigit(text[i]) && !isLetter(text[i]) && text[i] != '_' &&
		!((text[i] == '.' || text[i] == ',' || text[i] == '-') && i+1 < len(text) && isDigit(text[i+1]))
}

// card looks for the longest card number: digits alone or in groups with a space
// or hyphen between, of an issuer's prefix and length, with a Luhn check digit
// (ISO/IEC 7812-1).
func card(text string, groups []group) (end int, ok bool) {
	var digits [24]byte
	n := 0
	for k, g := range groups {
		if k > 0 && g.separator != " " && g.separator != "-" || n+g.size() > 19 {
			break
		}
		n += copy(digits[n:], text[g.start:g.end])
		if n >= 13 && issued(string(digits[:min(4, n)]), n) && luhn(digits[:n]) && ends(text, g.end) {
			end, ok = g.end, true
		}
	}
	return end, ok
}

// issued says whether cards with this prefix have n digits.
func issued(prefix string, n int) bool {
	switch {
	case prefix[0] == '4':
		return n == 13 || n == 16 || n == 19
	case prefix[:2] >= "51" && prefix[:2] <= "55", prefix >= "2221" && prefix <= "2720":
		return n == 16
	case prefix[:2] == "34", prefix[:2] == "37":
		return n == 15
	case prefix[:2] == "36", prefix[:2] == "38", prefix[:2] == "39", prefix[:3] >= "300" && prefix[:3] <= "305":
		return n == 14
	case prefix[0] == '6', prefix[:2] == "50", prefix[:2] >= "56" && prefix[:2] <= "58", prefix[:2] == "35":
		return n >= 16 && n <= 19
	}
	return false
}

func luhn(digits []byte) bool {
	sum := 0
	for i, c := range digits {
		d := int(c - '0')
		if (len(digits)-i)%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// ssn looks for ddd-dd-dddd with the numbers that are never given out left aside.
func ssn(text string, g []group) (end int, ok bool) {
	if len(g) < 3 || g[0].size() != 3 || g[1].size() != 2 || g[2].size() != 4 || g[1].separator != g[2].separator || g[1].separator != "-" && g[1].separator != " " || !ends(text, g[2].end) {
		return 0, false
	}
	area := text[g[0].start:g[0].end]
	if area == "000" || area == "666" || area[0] == '9' || text[g[1].start:g[1].end] == "00" || text[g[2].start:g[2].end] == "0000" {
		return 0, false
	}
	return g[2].end, true
}

// phone looks for a telephone number in one of the three forms of the package's
// comment. Digits: at most 15 (ITU-T E.164).
func phone(text string, g []group, plus, parenthesis bool) (end int, ok bool) {
	if !plus && nanp(g, parenthesis) && ends(text, g[2].end) {
		return g[2].end, true
	}
	if !plus && len(g) >= 4 && g[0].size() == 1 && text[g[0].start] == '1' && nanp(g[1:], true) && ends(text, g[3].end) {
		return g[3].end, true
	}
	national := !plus && text[g[0].start] == '0' && len(g) >= 2 && g[0].size() >= 2 && text[g[0].start:g[0].end] != "000"
	if !plus && !national {
		return 0, false
	}
	digits := 0
	for k, part := range g {
		if national && k > 0 && part.separator == "." || digits+part.size() > 15 {
			break // 01.02.2026 is a date
		}
		digits += part.size()
		if digits >= 8 && ends(text, part.end) {
			end, ok = part.end, true
		}
	}
	if national && g[0].size() == 2 && len(g) == 3 && g[1].size() == 2 && g[2].size() == 4 {
		return 0, false // 01-02-2026 too
	}
	return end, ok
}

// nanp is the North American grouping: 3-3-4.
func nanp(g []group, parenthesis bool) bool {
	if len(g) < 3 || g[0].size() != 3 || g[1].size() != 3 || g[2].size() != 4 {
		return false
	}
	return parenthesis || g[1].separator == g[2].separator && (g[1].separator == "-" || g[1].separator == " " || g[1].separator == ".")
}
