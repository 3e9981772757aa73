// Package simtest runs whole engines in a hostile simulated world.
package simtest
