// Package controller is the cluster's brain: it wins the election over a
// Coordinator, decides leaders, ISRs and assignments, writes them to the tree
// fenced by its epoch, and tells the brokers.
//
// # How the parts fit
//
// A [Member] keeps one broker in its cluster. For each coordination session it
// registers the broker ([Register]), follows configurations ([ConfigFeed]) and runs
// the broker's [Controller], which stands for election. Whoever uses the controller
// sees it as [Admin]; its requests leave through a [Sender].
//
// # What a caller may rely on
//
// All that the controller decides happens in one goroutine, the loop of
// [Controller.Run], one event after the other: a call of Admin, a change that was
// watched, an answer of a broker. Each event reads and writes the tree before the
// next one begins, so that what the loop knows is what the tree holds.
//
// Each write is one commit that checks the version of /controller_epoch: nothing is
// written by a controller after another one has been elected, however late it wakes
// up. A partition's state is written on its own version too, the partition epoch.
// When a write fails in a way that leaves its outcome open, the controller gives up
// its office and the next one, often itself, reads everything anew; there is no
// other way to recover, and none is needed.
//
// # Decisions
//
// The functions of election.go and assign.go take a state and give the next one;
// they read and write nothing. One of them, repair, serves broker failure, broker
// return and takeover alike, because it looks only at what is and not at what
// happened. Events may therefore come late, together, or twice.
//
// # Requests
//
// Each live broker has an outbox: one goroutine that sends LeaderAndISR, then
// UpdateMetadata, then StopReplica, one request at a time, and tries again until the
// broker is gone. Later requests merge into what has not been sent. A broker that
// has registered is told everything first, in requests of the type "full".
// A Sender must answer each request once, and must not let a request that it gave
// up take effect after one that it sends later: it closes the connection.
//
// # Deletion
//
// A topic that is to be deleted leaves everybody's metadata first, then its replicas
// are removed by their brokers, then its nodes. While a replica's broker is away the
// topic's name stays taken.
package controller
