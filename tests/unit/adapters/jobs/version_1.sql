BEGIN TRANSACTION;
CREATE TABLE job_events (
	job_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	type VARCHAR(32) NOT NULL, 
	data TEXT NOT NULL, 
	PRIMARY KEY (job_id, number), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_events" VALUES('job_0001',1,'job.progress','{"done_s": 2.0, "words": [], "draft": ""}');
CREATE TABLE job_recordings (
	job_id VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	kept_at DOUBLE NOT NULL, 
	piece BLOB NOT NULL, 
	PRIMARY KEY (job_id, number)
);
CREATE TABLE job_results (
	job_id VARCHAR(40) NOT NULL, 
	transcript TEXT NOT NULL, 
	PRIMARY KEY (job_id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE job_webhooks (
	job_id VARCHAR(40) NOT NULL, 
	id VARCHAR(40) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	next_at DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	last_error TEXT, 
	PRIMARY KEY (job_id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE, 
	UNIQUE (id)
);
CREATE TABLE job_windows (
	job_id VARCHAR(40) NOT NULL, 
	start_ms BIGINT NOT NULL, 
	samples BIGINT NOT NULL, 
	tokens TEXT NOT NULL, 
	PRIMARY KEY (job_id, start_ms, samples), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_windows" VALUES('job_0001',1000,16000,'[[1," Grüße",0.5,0.75,0.9],[2,"",0.75,0.75,1.0]]');
CREATE TABLE jobs (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(128) NOT NULL, 
	caller VARCHAR(128), 
	request TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	done_s DOUBLE NOT NULL, 
	duration_s DOUBLE, 
	model TEXT, 
	error_code VARCHAR(64), 
	error_message TEXT, 
	idempotency_key VARCHAR(256), 
	fingerprint VARCHAR(64) NOT NULL, 
	recording_bytes BIGINT NOT NULL, 
	server VARCHAR(64), 
	lease_until DOUBLE NOT NULL, 
	ready_at DOUBLE NOT NULL, 
	attempts INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT jobs_idempotency UNIQUE (owner, idempotency_key)
);
INSERT INTO "jobs" VALUES('job_0001','key bob','key bob','{"beam_size": 1, "phrases": [], "detection": null, "track": null, "file_url": null, "webhook_url": null, "metadata": {}, "presentation": {}}','running',1.0,10.0,NULL,2.0,60.0,'m',NULL,NULL,'again','abc',600,'b73732bdc53462e82bc41c63903aa062',40.0,0.0,0);
INSERT INTO "jobs" VALUES('job_0002','key bob','key bob','{"beam_size": 1, "phrases": [], "detection": null, "track": null, "file_url": null, "webhook_url": null, "metadata": {}, "presentation": {}}','queued',2.0,NULL,NULL,0.0,NULL,NULL,NULL,NULL,NULL,'abc',600,NULL,0.0,0.0,0);
CREATE TABLE jobs_schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "jobs_schema" VALUES(1);
CREATE INDEX jobs_by_status ON jobs (status, created_at);
CREATE INDEX jobs_by_end ON jobs (finished_at);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at, id);
CREATE INDEX job_webhooks_due ON job_webhooks (status, next_at);
COMMIT;
