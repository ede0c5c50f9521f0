import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A KCL worker of the benchmark: decodes each record's envelope and event into typed objects, and
 * checkpoints each batch. Arguments: application, stream, Kinesis endpoint, DynamoDB endpoint,
 * records of the warm-up, records after which the clocks stop, records to expect, result file.
 *
 * <p>It says what peers/attendant.py reads, and leaves a line "SHARD AT SEQUENCE..." for each batch in
 * the result file. It ends with its stdin.
 */
public class KclPeer {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    // As SDK users configure it: unknown members are skipped, the reader is made once.
    private static final ObjectReader EVENTS = new ObjectMapper().readerFor(Envelope.class);

    private static long expected;
    private static long warmUp;
    private static long measuredUntil;
    private static Path result;

    private static final List<Batch> batches = new ArrayList<>();
    private static long records;
    private static boolean began;
    private static boolean warm;
    private static boolean measured;
    private static boolean finished;

    @JsonIgnoreProperties(ignoreUnknown = true)
    static class Envelope {
        @JsonProperty String id;
        @JsonProperty String type;
        @JsonProperty String time;
        @JsonProperty BenchmarkEvent data;
    }

    @JsonIgnoreProperties(ignoreUnknown = true)
    static class BenchmarkEvent {
        @JsonProperty("event_id") String eventId;
        @JsonProperty("account_id") String accountId;
        @JsonProperty("amount_minor") long amountMinor;
        @JsonProperty String currency;
        @JsonProperty("terminal_id") String terminalId;
        @JsonProperty String channel;
        @JsonProperty String note;
    }

    private record Batch(String shard, double at, List<String> sequences) {}

    public static void main(String[] arguments) throws Exception {
        String application = arguments[0];
        String stream = arguments[1];
        warmUp = Long.parseLong(arguments[4]);
        measuredUntil = Long.parseLong(arguments[5]);
        expected = Long.parseLong(arguments[6]);
        result = Path.of(arguments[7]);

        Region region = Region.US_EAST_1;
        NettyNioAsyncHttpClient.Builder http =
                NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1);
        KinesisAsyncClient kinesis = KinesisAsyncClient.builder().region(region)
                .endpointOverride(URI.create(arguments[2])).httpClientBuilder(http).build();
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder().region(region)
                .endpointOverride(URI.create(arguments[3])).httpClientBuilder(http).build();
        // Never called: there are no metrics.
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder().region(region)
                .endpointOverride(URI.create("http://127.0.0.1:9")).httpClientBuilder(http).build();

        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(stream, InitialPositionInStreamExtended
                        .newInitialPosition(InitialPositionInStream.TRIM_HORIZON)),
                application, kinesis, dynamo, cloudWatch, "peer", Processor::new);
        // 200 ms is the least that KCL takes; three answers are kept ready meanwhile (its default).
        PollingConfig polling = new PollingConfig(stream, kinesis);
        polling.maxRecords(10_000);
        polling.idleTimeBetweenReadsInMillis(200);
        // The times have the leases assigned within seconds of the start instead of minutes. Audits
        // of the lease table come as seldom as by default.
        LeaseManagementConfig leases = configs.leaseManagementConfig()
                .failoverTimeMillis(2_000)
                .shardSyncIntervalMillis(1_000);
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig()
                        .skipShardSyncAtWorkerInitializationIfLeasesExist(true),
                leases,
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(polling));
        Thread runner = new Thread(scheduler, "scheduler");
        runner.setDaemon(true);
        runner.start();
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        finish();
        Runtime.getRuntime().halt(0);
    }

    private static synchronized void begin() {
        if (!began) {
            say("began");
        }
        began = true;
    }

    private static synchronized void done(Batch batch) {
        batches.add(batch);
        records += batch.sequences().size();
        if (!warm && records >= warmUp) {
            say("warm");
            warm = true;
        } else if (!measured && records >= measuredUntil) {
            say("measured");
            measured = true;
        }
        if (records >= expected) {
            finish();
        }
    }

    /** Says what is left to say and leaves the account; once. */
    private static synchronized void finish() {
        if (finished) {
            return;
        }
        finished = true;
        if (!warm) {
            say("warm");
        }
        if (!measured) {
            say("measured");
        }
        leave();
        say("done");
    }

    /** Tells the monotonic clock, which all processes of a host share, and this one's CPU time. */
    private static void say(String what) {
        double cpu = SYSTEM.getProcessCpuTime() / 1e9;
        System.out.printf(Locale.ROOT, "%s %.9f %.9f %d%n", what, now(), cpu, records);
        System.out.flush();
    }

    private static double now() {
        return System.nanoTime() / 1e9;
    }

    private static void leave() {
        try (PrintWriter lines = new PrintWriter(Files.newBufferedWriter(result))) {
            for (Batch batch : batches) {
                lines.printf(Locale.ROOT, "%s %.9f %s\n", batch.shard(), batch.at(),
                        String.join(" ", batch.sequences()));
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static class Processor implements ShardRecordProcessor {
        private String shard;
        private byte[] buffer = new byte[4096];

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            begin();
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            List<String> sequences = new ArrayList<>(input.records().size());
            for (KinesisClientRecord record : input.records()) {
                handle(decode(record.data()));
                sequences.add(record.sequenceNumber());
            }
            try {
                input.checkpointer().checkpoint();
            } catch (InvalidStateException | ShutdownException error) {
                throw new IllegalStateException("no checkpoint", error);
            }
            done(new Batch(shard, now(), sequences));
        }

        private Envelope decode(ByteBuffer data) {
            int length = data.remaining();
            if (length > buffer.length) {
                buffer = new byte[2 * length];
            }
            data.get(buffer, 0, length);
            try {
                return EVENTS.readValue(buffer, 0, length);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private void handle(Envelope envelope) {
            if (envelope.data.eventId == null) {
                throw new IllegalStateException("an event without an id");
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            throw new IllegalStateException(shard + ": lease lost, nobody else should want it");
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            throw new IllegalStateException(shard + ": ended, nobody should reshard");
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
        }
    }
}
