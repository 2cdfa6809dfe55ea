package config

// brokerIgnored are the broker settings of Kafka 3.9 and 4.2 that Millrace has no
// use for, one a line: name, type, default, importance, update mode, rule, and
// "internal" for those that Kafka does not document. <null> and <empty> are what
// they say; rules are Kafka's notation, - for none.
const brokerIgnored = `
add.partitions.to.txn.retry.backoff.max.ms INT 100 HIGH ReadOnly [0,...]
add.partitions.to.txn.retry.backoff.ms INT 20 HIGH ReadOnly [1,...]
alter.config.policy.class.name CLASS <null> LOW ReadOnly -
authorizer.class.name STRING <empty> LOW ReadOnly -
auto.include.jmx.reporter BOOLEAN true LOW ReadOnly -
background.threads INT 10 HIGH ClusterWide [1,...]
broker.heartbeat.interval.ms INT 2000 MEDIUM ReadOnly -
broker.session.timeout.ms INT 9000 MEDIUM ReadOnly -
client.quota.callback.class CLASS <null> LOW ReadOnly -
config.providers LIST <empty> LOW ReadOnly -
connection.failed.authentication.delay.ms INT 100 LOW ReadOnly [0,...]
connections.max.reauth.ms LONG 0 MEDIUM ReadOnly -
controller.listener.names STRING <null> HIGH ReadOnly -
controller.performance.always.log.threshold.ms LONG 2000 MEDIUM ReadOnly [0,...] internal
controller.performance.sample.period.ms LONG 60000 MEDIUM ReadOnly [100,...] internal
controller.quorum.append.linger.ms INT 25 MEDIUM ReadOnly -
controller.quorum.auto.join.enable BOOLEAN false LOW ReadOnly -
controller.quorum.bootstrap.servers LIST <empty> HIGH ReadOnly -
controller.quorum.election.backoff.max.ms INT 1000 HIGH ReadOnly -
controller.quorum.election.timeout.ms INT 1000 HIGH ReadOnly -
controller.quorum.fetch.timeout.ms INT 2000 HIGH ReadOnly -
controller.quorum.request.timeout.ms INT 2000 MEDIUM ReadOnly -
controller.quorum.retry.backoff.ms INT 20 LOW ReadOnly -
controller.quorum.voters LIST <empty> HIGH ReadOnly -
create.topic.policy.class.name CLASS <null> LOW ReadOnly -
delegation.token.expiry.check.interval.ms LONG 3600000 LOW ReadOnly [1,...]
delegation.token.expiry.time.ms LONG 86400000 MEDIUM ReadOnly [1,...]
delegation.token.master.key PASSWORD <null> MEDIUM ReadOnly -
delegation.token.max.lifetime.ms LONG 604800000 MEDIUM ReadOnly [1,...]
delegation.token.secret.key PASSWORD <null> MEDIUM ReadOnly -
delete.records.purgatory.purge.interval.requests INT 1 MEDIUM ReadOnly -
early.start.listeners STRING <null> HIGH ReadOnly -
eligible.leader.replicas.enable BOOLEAN false HIGH ReadOnly -
fetch.purgatory.purge.interval.requests INT 1000 MEDIUM ReadOnly -
group.coordinator.append.linger.ms INT 10 MEDIUM ReadOnly [0,...]
group.coordinator.new.enable BOOLEAN false MEDIUM ReadOnly - internal
group.coordinator.threads INT 1 MEDIUM ReadOnly [1,...]
group.share.assignors LIST simple MEDIUM ReadOnly -
group.share.delivery.count.limit INT 5 MEDIUM ReadOnly [2,...,10]
group.share.enable BOOLEAN false MEDIUM ReadOnly - internal
group.share.heartbeat.interval.ms INT 5000 MEDIUM ReadOnly [1,...]
group.share.initialize.retry.interval.ms INT 30000 LOW ReadOnly [1,...] internal
group.share.max.groups SHORT 10 MEDIUM ReadOnly [1,...,100]
group.share.max.heartbeat.interval.ms INT 15000 MEDIUM ReadOnly [1,...]
group.share.max.record.lock.duration.ms INT 60000 MEDIUM ReadOnly [30000,...,3600000]
group.share.max.session.timeout.ms INT 60000 MEDIUM ReadOnly [1,...]
group.share.max.share.sessions INT 2000 MEDIUM ReadOnly [1,...]
group.share.max.size SHORT 200 MEDIUM ReadOnly [10,...,1000]
group.share.min.heartbeat.interval.ms INT 5000 MEDIUM ReadOnly [1,...]
group.share.min.record.lock.duration.ms INT 15000 MEDIUM ReadOnly [1000,...,30000]
group.share.min.session.timeout.ms INT 45000 MEDIUM ReadOnly [1,...]
group.share.partition.max.record.locks INT 200 MEDIUM ReadOnly [100,...,10000]
group.share.persister.class.name STRING org.apache.kafka.server.share.persister.DefaultStatePersister MEDIUM ReadOnly - internal
group.share.record.lock.duration.ms INT 30000 MEDIUM ReadOnly [1000,...,60000]
group.share.session.timeout.ms INT 45000 MEDIUM ReadOnly [1,...]
group.streams.heartbeat.interval.ms INT 5000 MEDIUM ReadOnly [1,...]
group.streams.initial.rebalance.delay.ms INT 3000 MEDIUM ReadOnly [0,...]
group.streams.max.heartbeat.interval.ms INT 15000 MEDIUM ReadOnly [1,...]
group.streams.max.session.timeout.ms INT 60000 MEDIUM ReadOnly [1,...]
group.streams.max.size INT 2147483647 MEDIUM ReadOnly [1,...]
group.streams.max.standby.replicas INT 2 MEDIUM ReadOnly [0,...]
group.streams.min.heartbeat.interval.ms INT 5000 MEDIUM ReadOnly [1,...]
group.streams.min.session.timeout.ms INT 45000 MEDIUM ReadOnly [1,...]
group.streams.num.standby.replicas INT 0 MEDIUM ReadOnly [0,...]
group.streams.session.timeout.ms INT 45000 MEDIUM ReadOnly [1,...]
initial.broker.registration.timeout.ms INT 60000 MEDIUM ReadOnly -
inter.broker.protocol.version STRING 3.9-IV0 MEDIUM ReadOnly -
internal.metadata.delete.delay.millis LONG 60000 LOW ReadOnly - internal
internal.metadata.log.segment.bytes INT <null> LOW ReadOnly - internal
internal.metadata.max.batch.size.in.bytes INT 8388608 LOW ReadOnly - internal
internal.metadata.max.fetch.size.in.bytes INT 8388608 LOW ReadOnly - internal
kafka.metrics.polling.interval.secs INT 10 LOW ReadOnly [1,...]
kafka.metrics.reporters LIST <empty> LOW ReadOnly -
log.initial.task.delay.ms LONG 30000 LOW ReadOnly [0,...] internal
log.local.retention.bytes LONG -2 MEDIUM ClusterWide [-2,...]
log.local.retention.ms LONG -2 MEDIUM ClusterWide [-2,...]
log.message.format.version STRING 3.0-IV1 MEDIUM ReadOnly -
metadata.log.dir STRING <null> HIGH ReadOnly -
metadata.log.max.record.bytes.between.snapshots LONG 20971520 HIGH ReadOnly [1,...]
metadata.log.max.snapshot.interval.ms LONG 3600000 HIGH ReadOnly [0,...]
metadata.log.segment.bytes INT 1073741824 HIGH ReadOnly [12,...]
metadata.log.segment.min.bytes INT 8388608 HIGH ReadOnly [12,...] internal
metadata.log.segment.ms LONG 604800000 HIGH ReadOnly -
metadata.max.idle.interval.ms INT 500 LOW ReadOnly [0,...]
metadata.max.retention.bytes LONG 104857600 HIGH ReadOnly -
metadata.max.retention.ms LONG 604800000 HIGH ReadOnly -
metric.reporters LIST <empty> LOW ClusterWide -
metrics.num.samples INT 2 LOW ReadOnly [1,...]
metrics.recording.level STRING INFO LOW ReadOnly -
metrics.sample.window.ms LONG 30000 LOW ReadOnly [1,...]
num.io.threads INT 8 HIGH ClusterWide [1,...]
num.network.threads INT 3 HIGH ClusterWide [1,...]
password.encoder.cipher.algorithm STRING AES/CBC/PKCS5Padding LOW ReadOnly -
password.encoder.iterations INT 4096 LOW ReadOnly [1024,...]
password.encoder.key.length INT 128 LOW ReadOnly [8,...]
password.encoder.keyfactory.algorithm STRING <null> LOW ReadOnly -
password.encoder.old.secret PASSWORD <null> MEDIUM ReadOnly -
password.encoder.secret PASSWORD <null> MEDIUM ReadOnly -
principal.builder.class CLASS org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder MEDIUM PerBroker -
process.roles LIST <empty> HIGH ReadOnly [broker|controller]
producer.purgatory.purge.interval.requests INT 1000 MEDIUM ReadOnly -
queued.max.requests INT 500 HIGH ReadOnly [1,...]
remote.fetch.max.wait.ms INT 500 MEDIUM ClusterWide [1,...]
remote.list.offsets.request.timeout.ms LONG 30000 MEDIUM ReadOnly [1,...]
remote.log.index.file.cache.total.size.bytes LONG 1073741824 LOW ClusterWide [1,...]
remote.log.manager.copier.thread.pool.size INT -1 MEDIUM ReadOnly -
remote.log.manager.copy.max.bytes.per.second LONG 9223372036854775807 MEDIUM ClusterWide [1,...]
remote.log.manager.copy.quota.window.num INT 11 MEDIUM ReadOnly [1,...]
remote.log.manager.copy.quota.window.size.seconds INT 1 MEDIUM ReadOnly [1,...]
remote.log.manager.expiration.thread.pool.size INT -1 MEDIUM ReadOnly -
remote.log.manager.fetch.max.bytes.per.second LONG 9223372036854775807 MEDIUM ClusterWide [1,...]
remote.log.manager.fetch.quota.window.num INT 11 MEDIUM ReadOnly [1,...]
remote.log.manager.fetch.quota.window.size.seconds INT 1 MEDIUM ReadOnly [1,...]
remote.log.manager.follower.thread.pool.size INT 2 MEDIUM ReadOnly [1,...]
remote.log.manager.task.interval.ms LONG 30000 LOW ReadOnly [1,...]
remote.log.manager.task.retry.backoff.max.ms LONG 30000 LOW ReadOnly [1,...] internal
remote.log.manager.task.retry.backoff.ms LONG 500 LOW ReadOnly [1,...] internal
remote.log.manager.task.retry.jitter DOUBLE 0.2 LOW ReadOnly [0,...,0.5] internal
remote.log.manager.thread.pool.size INT 10 MEDIUM ReadOnly [1,...]
remote.log.metadata.custom.metadata.max.bytes INT 128 LOW ReadOnly [0,...]
remote.log.metadata.manager.class.name STRING org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager MEDIUM ReadOnly -
remote.log.metadata.manager.class.path STRING <null> MEDIUM ReadOnly -
remote.log.metadata.manager.impl.prefix STRING rlmm.config. MEDIUM ReadOnly -
remote.log.metadata.manager.listener.name STRING <null> MEDIUM ReadOnly -
remote.log.reader.max.pending.tasks INT 100 MEDIUM ReadOnly [1,...]
remote.log.reader.threads INT 10 MEDIUM ReadOnly [1,...]
remote.log.storage.manager.class.name STRING <null> MEDIUM ReadOnly -
remote.log.storage.manager.class.path STRING <null> MEDIUM ReadOnly -
remote.log.storage.manager.impl.prefix STRING rsm.config. MEDIUM ReadOnly -
remote.log.storage.system.enable BOOLEAN false MEDIUM ReadOnly -
replica.selector.class STRING <null> MEDIUM ReadOnly -
sasl.client.callback.handler.class CLASS <null> MEDIUM ReadOnly -
sasl.enabled.mechanisms LIST GSSAPI MEDIUM PerBroker -
sasl.jaas.config PASSWORD <null> MEDIUM PerBroker -
sasl.kerberos.kinit.cmd STRING /usr/bin/kinit MEDIUM PerBroker -
sasl.kerberos.min.time.before.relogin LONG 60000 MEDIUM PerBroker -
sasl.kerberos.principal.to.local.rules LIST DEFAULT MEDIUM PerBroker -
sasl.kerberos.service.name STRING <null> MEDIUM PerBroker -
sasl.kerberos.ticket.renew.jitter DOUBLE 0.05 MEDIUM PerBroker -
sasl.kerberos.ticket.renew.window.factor DOUBLE 0.8 MEDIUM PerBroker -
sasl.login.callback.handler.class CLASS <null> MEDIUM ReadOnly -
sasl.login.class CLASS <null> MEDIUM ReadOnly -
sasl.login.connect.timeout.ms INT <null> LOW ReadOnly -
sasl.login.read.timeout.ms INT <null> LOW ReadOnly -
sasl.login.refresh.buffer.seconds SHORT 300 MEDIUM PerBroker -
sasl.login.refresh.min.period.seconds SHORT 60 MEDIUM PerBroker -
sasl.login.refresh.window.factor DOUBLE 0.8 MEDIUM PerBroker -
sasl.login.refresh.window.jitter DOUBLE 0.05 MEDIUM PerBroker -
sasl.login.retry.backoff.max.ms LONG 10000 LOW ReadOnly -
sasl.login.retry.backoff.ms LONG 100 LOW ReadOnly -
sasl.mechanism.controller.protocol STRING GSSAPI HIGH ReadOnly -
sasl.mechanism.inter.broker.protocol STRING GSSAPI MEDIUM PerBroker -
sasl.oauthbearer.assertion.algorithm STRING RS256 MEDIUM ReadOnly ~[ES256|RS256]
sasl.oauthbearer.assertion.claim.aud STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.claim.exp.seconds INT 300 LOW ReadOnly [0,...,86400]
sasl.oauthbearer.assertion.claim.iss STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.claim.jti.include BOOLEAN false MEDIUM ReadOnly -
sasl.oauthbearer.assertion.claim.nbf.seconds INT 60 LOW ReadOnly [0,...,3600]
sasl.oauthbearer.assertion.claim.sub STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.file STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.private.key.file STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.private.key.passphrase PASSWORD <null> MEDIUM ReadOnly -
sasl.oauthbearer.assertion.template.file STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.client.credentials.client.id STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.client.credentials.client.secret PASSWORD <null> MEDIUM ReadOnly -
sasl.oauthbearer.clock.skew.seconds INT 30 LOW ReadOnly -
sasl.oauthbearer.expected.audience LIST <null> LOW ReadOnly -
sasl.oauthbearer.expected.issuer STRING <null> LOW ReadOnly -
sasl.oauthbearer.jwks.endpoint.refresh.ms LONG 3600000 LOW ReadOnly -
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms LONG 10000 LOW ReadOnly -
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms LONG 100 LOW ReadOnly -
sasl.oauthbearer.jwks.endpoint.url STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.jwt.retriever.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever MEDIUM ReadOnly -
sasl.oauthbearer.jwt.validator.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator MEDIUM ReadOnly -
sasl.oauthbearer.scope STRING <null> MEDIUM ReadOnly -
sasl.oauthbearer.scope.claim.name STRING scope LOW ReadOnly -
sasl.oauthbearer.sub.claim.name STRING sub LOW ReadOnly -
sasl.oauthbearer.token.endpoint.url STRING <null> MEDIUM ReadOnly -
sasl.server.callback.handler.class CLASS <null> MEDIUM ReadOnly -
sasl.server.max.receive.size INT 524288 MEDIUM ReadOnly -
security.providers STRING <null> LOW ReadOnly -
server.max.startup.time.ms LONG 9223372036854775807 MEDIUM ReadOnly [0,...] internal
share.coordinator.append.linger.ms INT -1 MEDIUM ReadOnly [-1,...]
share.coordinator.cold.partition.snapshot.interval.ms INT 300000 LOW ReadOnly [1,...] internal
share.coordinator.load.buffer.size INT 5242880 HIGH ReadOnly [1,...]
share.coordinator.snapshot.update.records.per.snapshot INT 500 MEDIUM ReadOnly [0,...]
share.coordinator.state.topic.compression.codec INT 0 HIGH ReadOnly -
share.coordinator.state.topic.min.isr SHORT 2 HIGH ReadOnly [1,...]
share.coordinator.state.topic.num.partitions INT 50 HIGH ReadOnly [1,...]
share.coordinator.state.topic.prune.interval.ms INT 300000 LOW ReadOnly [1,...] internal
share.coordinator.state.topic.replication.factor SHORT 3 HIGH ReadOnly [1,...]
share.coordinator.state.topic.segment.bytes INT 104857600 HIGH ReadOnly [1,...]
share.coordinator.threads INT 1 MEDIUM ReadOnly [1,...]
share.coordinator.write.timeout.ms INT 5000 HIGH ReadOnly [1,...]
share.fetch.purgatory.purge.interval.requests INT 1000 MEDIUM ReadOnly -
ssl.allow.dn.changes BOOLEAN false LOW ReadOnly -
ssl.allow.san.changes BOOLEAN false LOW ReadOnly -
ssl.cipher.suites LIST <empty> MEDIUM PerBroker -
ssl.client.auth STRING none MEDIUM PerBroker [required|requested|none]
ssl.enabled.protocols LIST TLSv1.2,TLSv1.3 MEDIUM PerBroker -
ssl.endpoint.identification.algorithm STRING https LOW PerBroker -
ssl.engine.factory.class CLASS <null> LOW PerBroker -
ssl.key.password PASSWORD <null> MEDIUM PerBroker -
ssl.keymanager.algorithm STRING SunX509 MEDIUM PerBroker -
ssl.keystore.certificate.chain PASSWORD <null> MEDIUM PerBroker -
ssl.keystore.key PASSWORD <null> MEDIUM PerBroker -
ssl.keystore.location STRING <null> MEDIUM PerBroker -
ssl.keystore.password PASSWORD <null> MEDIUM PerBroker -
ssl.keystore.type STRING JKS MEDIUM PerBroker -
ssl.principal.mapping.rules STRING DEFAULT LOW ReadOnly -
ssl.protocol STRING TLSv1.3 MEDIUM PerBroker -
ssl.provider STRING <null> MEDIUM PerBroker -
ssl.secure.random.implementation STRING <null> LOW PerBroker -
ssl.trustmanager.algorithm STRING PKIX MEDIUM PerBroker -
ssl.truststore.certificates PASSWORD <null> MEDIUM PerBroker -
ssl.truststore.location STRING <null> MEDIUM PerBroker -
ssl.truststore.password PASSWORD <null> MEDIUM PerBroker -
ssl.truststore.type STRING JKS MEDIUM PerBroker -
telemetry.max.bytes INT 1048576 LOW ReadOnly [1,...]
transaction.two.phase.commit.enable BOOLEAN false LOW ReadOnly -
unclean.leader.election.interval.ms LONG 300000 MEDIUM ReadOnly [1,...] internal
unstable.api.versions.enable BOOLEAN false HIGH ReadOnly - internal
unstable.feature.versions.enable BOOLEAN false HIGH ReadOnly - internal
zookeeper.clientCnxnSocket STRING <null> MEDIUM ReadOnly -
zookeeper.metadata.migration.enable BOOLEAN false HIGH ReadOnly -
zookeeper.metadata.migration.min.batch.size INT 200 MEDIUM ReadOnly [1,...] internal
zookeeper.ssl.cipher.suites LIST <null> LOW ReadOnly -
zookeeper.ssl.client.enable BOOLEAN false MEDIUM ReadOnly -
zookeeper.ssl.crl.enable BOOLEAN false LOW ReadOnly -
zookeeper.ssl.enabled.protocols LIST <null> LOW ReadOnly -
zookeeper.ssl.endpoint.identification.algorithm STRING HTTPS LOW ReadOnly -
zookeeper.ssl.keystore.location STRING <null> MEDIUM ReadOnly -
zookeeper.ssl.keystore.password PASSWORD <null> MEDIUM ReadOnly -
zookeeper.ssl.keystore.type STRING <null> MEDIUM ReadOnly -
zookeeper.ssl.ocsp.enable BOOLEAN false LOW ReadOnly -
zookeeper.ssl.protocol STRING TLSv1.2 LOW ReadOnly -
zookeeper.ssl.truststore.location STRING <null> MEDIUM ReadOnly -
zookeeper.ssl.truststore.password PASSWORD <null> MEDIUM ReadOnly -
zookeeper.ssl.truststore.type STRING <null> MEDIUM ReadOnly -
super.users STRING <empty> MEDIUM ReadOnly -
allow.everyone.if.no.acl.found BOOLEAN false MEDIUM ReadOnly -
`

// obsolete are broker settings of Kafka releases before 3.9, each with what to use
// instead, or why there is nothing.
const obsolete = `
host.name use listeners
port use listeners
advertised.host.name use advertised.listeners
advertised.port use advertised.listeners
quota.producer.default use client quotas
quota.consumer.default use client quotas
zookeeper.sync.time.ms has no effect
replica.lag.max.messages use replica.lag.time.max.ms
controller.message.queue.size has no effect
principal.to.local.class use sasl.kerberos.principal.to.local.rules
log.retention.check.interval.mins use log.retention.check.interval.ms
log.cleanup.interval.mins use log.retention.check.interval.ms
kafka.csv.metrics.reporter.enabled use the Prometheus metrics at http.listener
kafka.csv.metrics.dir use the Prometheus metrics at http.listener
`

// passthrough are prefixes of settings that belong to somebody else: plug-ins of
// Kafka, or Millrace's own. used tells which.
const passthrough = `
plugin. used
rsm.config. ignored
rlmm.config. ignored
metrics.context. ignored
config.providers. ignored
authorizer.zookeeper. ignored
`
