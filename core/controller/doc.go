// Package controller is the cluster's brain: it wins the election over a
// Coordinator, decides leaders, ISRs and assignments, writes them to the tree
// fenced by its epoch, and tells the brokers.
package controller
