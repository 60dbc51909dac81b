// Package format turns numbers, times and other people's text into what a
// person reads in a terminal: "4.2 MB", "3m", "1,204", a name cut to twelve
// cells. It is pure and knows neither the mesh nor a terminal.
package format
