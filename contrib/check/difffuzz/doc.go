// Difffuzz makes random system calls in two directories and compares all that programs can see.
package main
