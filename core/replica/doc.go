// Package replica runs the partitions that this broker hosts: it validates and
// appends, keeps the high watermark, the ISR, leader epochs and producer state,
// and wakes those who wait. One Partition is one replica; the Manager has them all
// and does as the controller says.
package replica
