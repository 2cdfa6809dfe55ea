// Package txn is for producer ids and transactions. It hands out producer ids;
// the coordination of transactions has its place here.
package txn
