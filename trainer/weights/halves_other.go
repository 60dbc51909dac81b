//go:build !amd64

package weights

func toF32Blocks(dst []float32, dtype string, src []byte) int   { return 0 }
func fromF32Blocks(dst []byte, dtype string, src []float32) int { return 0 }
