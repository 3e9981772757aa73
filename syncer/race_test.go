//go:build race

package syncer_test

const racing = true
