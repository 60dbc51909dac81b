// Package rules holds no code, only tests of the rules of the house: who may
// import whom, that every package says what it is for, and that the docs name
// every config field.
package rules
