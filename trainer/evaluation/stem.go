package evaluation

import "strings"

// Stem reduces an English word, in lower case, by Porter's algorithm (Porter 1980,
// "An algorithm for suffix stripping") with the extensions that NLTK adds and
// rouge_score uses by that (nltk.stem.porter, mode NLTK_EXTENSIONS): irregular
// forms, words of up to two letters kept, "ies" and "ied" of four letters, y to i
// after a consonant only, and the suffixes alli, fulli and logi in step 2.
func Stem(word string) string {
	if stem, ok := irregular[word]; ok {
		return stem
	}
	if len(word) <= 2 {
		return word
	}
	word = pastAndGerund(plural(word))
	if n := len(word) - 1; n > 1 && word[n] == 'y' && consonant(word, n-1) {
		word = word[:n] + "i"
	}
	for strings.HasSuffix(word, "alli") && measure(word[:len(word)-4]) > 0 {
		word = word[:len(word)-2]
	}
	word = replace(word, step2)
	word = replace(word, step3)
	word = replace(word, step4)
	return finalE(word)
}

var irregular = map[string]string{
	"skies": "sky", "sky": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
	"innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning",
	"howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}

// suffix is a rule: the ending from becomes to if the stem before it has a measure
// above least. The first ending that a word has decides, whether it is replaced or
// not.
type suffix struct {
	from, to string
	least    int
}

var step2 = []suffix{
	{"ational", "ate", 0}, {"tional", "tion", 0}, {"enci", "ence", 0}, {"anci", "ance", 0}, {"izer", "ize", 0}, {"bli", "ble", 0},
	{"alli", "al", 0}, {"entli", "ent", 0}, {"eli", "e", 0}, {"ousli", "ous", 0}, {"ization", "ize", 0}, {"ation", "ate", 0},
	{"ator", "ate", 0}, {"alism", "al", 0}, {"iveness", "ive", 0}, {"fulness", "ful", 0}, {"ousness", "ous", 0}, {"aliti", "al", 0},
	{"iviti", "ive", 0}, {"biliti", "ble", 0}, {"fulli", "ful", 0}, {"logi", "log", 0},
}

var step3 = []suffix{{"icate", "ic", 0}, {"ative", "", 0}, {"alize", "al", 0}, {"iciti", "ic", 0}, {"ical", "ic", 0}, {"ful", "", 0}, {"ness", "", 0}}

var step4 = []suffix{
	{"al", "", 1}, {"ance", "", 1}, {"ence", "", 1}, {"er", "", 1}, {"ic", "", 1}, {"able", "", 1}, {"ible", "", 1}, {"ant", "", 1},
	{"ement", "", 1}, {"ment", "", 1}, {"ent", "", 1}, {"ion", "", 1}, {"ou", "", 1}, {"ism", "", 1}, {"ate", "", 1}, {"iti", "", 1},
	{"ous", "", 1}, {"ive", "", 1}, {"ize", "", 1},
}

func replace(word string, rules []suffix) string {
	for _, r := range rules {
		stem, ok := strings.CutSuffix(word, r.from)
		if !ok {
			continue
		}
		measured := stem
		if r.from == "logi" { // its l counts to the stem, for geology and the like
			measured += "l"
		}
		if measure(measured) <= r.least || r.from == "ion" && !strings.HasSuffix(stem, "s") && !strings.HasSuffix(stem, "t") {
			return word
		}
		return stem + r.to
	}
	return word
}

// plural is step 1a.
func plural(word string) string {
	switch {
	case strings.HasSuffix(word, "ies") && len(word) == 4:
		return word[:3]
	case strings.HasSuffix(word, "sses"), strings.HasSuffix(word, "ies"):
		return word[:len(word)-2]
	case strings.HasSuffix(word, "ss"):
		return word
	}
	return strings.TrimSuffix(word, "s")
}

// pastAndGerund is step 1b.
func pastAndGerund(word string) string {
	switch {
	case strings.HasSuffix(word, "ied") && len(word) == 4:
		return word[:3]
	case strings.HasSuffix(word, "ied"):
		return word[:len(word)-2]
	case strings.HasSuffix(word, "eed"):
		if measure(word[:len(word)-3]) > 0 {
			return word[:len(word)-1]
		}
		return word
	}
	stem, ok := strings.CutSuffix(word, "ed")
	if !ok || !hasVowel(stem) {
		if stem, ok = strings.CutSuffix(word, "ing"); !ok || !hasVowel(stem) {
			return word
		}
	}
	n := len(stem)
	switch {
	case strings.HasSuffix(stem, "at"), strings.HasSuffix(stem, "bl"), strings.HasSuffix(stem, "iz"):
		return stem + "e"
	case n >= 2 && stem[n-1] == stem[n-2] && consonant(stem, n-1):
		if strings.ContainsRune("lsz", rune(stem[n-1])) {
			return stem
		}
		return stem[:n-1]
	case measure(stem) == 1 && endsCVC(stem):
		return stem + "e"
	}
	return stem
}

// finalE is step 5.
func finalE(word string) string {
	if stem, ok := strings.CutSuffix(word, "e"); ok {
		if m := measure(stem); m > 1 || m == 1 && !endsCVC(stem) {
			word = stem
		}
	}
	if strings.HasSuffix(word, "ll") && measure(word[:len(word)-1]) > 1 {
		word = word[:len(word)-1]
	}
	return word
}

// consonant: any letter but a, e, i, o, u, and but y after a consonant.
func consonant(word string, i int) bool {
	switch word[i] {
	case 'a', 'e', 'i', 'o', 'u':
		return false
	case 'y':
		odd := false // of the run of y that ends here, those before this one
		for i > 0 && word[i] == 'y' {
			odd = !odd
			i--
		}
		return (word[i] == 'y' || consonant(word, i)) != odd
	}
	return true
}

func hasVowel(stem string) bool {
	for i := range len(stem) {
		if !consonant(stem, i) {
			return true
		}
	}
	return false
}

// measure is m of the form [C](VC){m}[V].
func measure(stem string) int {
	m, vowel := 0, false
	for i := range len(stem) {
		c := consonant(stem, i)
		if c && vowel {
			m++
		}
		vowel = !c
	}
	return m
}

// endsCVC: the last of consonant, vowel, consonant is not w, x or y; NLTK has a
// vowel and a consonant alone as well.
func endsCVC(word string) bool {
	n := len(word)
	if n == 2 {
		return !consonant(word, 0) && consonant(word, 1)
	}
	return n >= 3 && consonant(word, n-3) && !consonant(word, n-2) && consonant(word, n-1) && !strings.ContainsRune("wxy", rune(word[n-1]))
}
