//go:build !race

package blocks

const racing = false
