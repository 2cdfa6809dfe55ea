package api

import "context"

// Operation is what a principal wants to do; Kafka's numbers of AclOperation.
type Operation int8

// The operations that requests ask for.
const (
	OpRead            Operation = 3
	OpWrite           Operation = 4
	OpCreate          Operation = 5
	OpDelete          Operation = 6
	OpAlter           Operation = 7
	OpDescribe        Operation = 8
	OpClusterAction   Operation = 9
	OpDescribeConfigs Operation = 10
	OpAlterConfigs    Operation = 11
	OpIdempotentWrite Operation = 12
)

// Resource is what it is done to; Kafka's numbers of ResourceType.
type Resource int8

// The resources that requests name.
const (
	TopicResource           Resource = 2
	GroupResource           Resource = 3
	ClusterResource         Resource = 4
	TransactionalIDResource Resource = 5
)

// clusterName is the name of the one cluster resource.
const clusterName = "kafka-cluster"

// Action is one thing that a principal wants to do.
type Action struct {
	Principal string // User:NAME
	Operation Operation
	Resource  Resource
	// Name of the topic, group or transactional id; kafka-cluster for the cluster. It
	// may alias bytes of the request: it is not kept.
	Name string
}

// Authorizer decides who may do what. Safe for concurrent use. Rules by which one
// permission implies another are its own: OpIdempotentWrite to the cluster is also
// allowed to whoever may write to any topic (KIP-679).
type Authorizer interface {
	Allowed(ctx context.Context, a Action) bool
}

// allowed asks the authorizer; without one, everything is.
func (c *call) allowed(ctx context.Context, op Operation, resource Resource, name string) bool {
	a := c.server.Authorizer
	return a == nil || a.Allowed(ctx, Action{Principal: c.principal, Operation: op, Resource: resource, Name: name})
}

// operations is the bit field of what the client may do to a resource (KIP-430).
func (c *call) operations(ctx context.Context, resource Resource, name string, candidates ...Operation) int32 {
	var bits int32
	for _, op := range candidates {
		if c.allowed(ctx, op, resource, name) {
			bits |= 1 << op
		}
	}
	return bits
}
