// Package examples holds the data set that the demo runs on. It is made by
// examples/generate; `go generate ./examples` makes it anew.
package examples

import _ "embed"

//go:generate go run ./generate -out support-tickets.csv

// SupportTickets is a CSV file of support tickets with the columns ticket_id,
// created_at, customer, channel, subject, body and category.
//
//go:embed support-tickets.csv
var SupportTickets []byte
