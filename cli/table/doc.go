// Package table prints aligned columns that fit a width. Columns that may
// shrink do so, with an ellipsis; ids and numbers never do. It knows cells, not
// what they mean.
package table
