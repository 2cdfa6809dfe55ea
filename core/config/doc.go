// Package config knows every setting of a broker: its name, type, default,
// allowed values, documentation, and whether it changes at run time. Names and
// meanings are Kafka's (3.9 is the reference, names of 4.2 are accepted too);
// settings that only Millrace has are in the same table.
//
// A [Table] is the catalogue. [Load] reads a server.properties file, the
// environment and command-line overrides against it and gives a [Static] set of
// values, or one error that lists everything wrong with them. [Broker] and
// [Topic] are typed views for code; [Dynamic] adds what changes at run time and
// answers DescribeConfigs and AlterConfigs.
//
// The package persists nothing and talks to nobody: who alters a configuration
// stores it elsewhere and gives the new values to Dynamic.
package config
