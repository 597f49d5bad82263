// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.schema;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;

/**
 * The scripts that bring a database from one version to another.
 */
public final class UpgradePath {

    private final List<Step> steps;

    public UpgradePath(List<Step> steps) {
        this.steps = List.copyOf(steps);
    }

    /** The steps that the product knows, from META-INF/db/upgrades.txt: one "from to script" per line. */
    public static UpgradePath load() {
        List<Step> steps = new ArrayList<>();
        try (BufferedReader in = open("/META-INF/db/upgrades.txt")) {
            for (String line : in.lines().filter(l -> !l.isBlank() && !l.startsWith("#")).toList()) {
                String[] words = line.trim().split("\\s+");
                steps.add(new Step(Version.parse(words[0]), Version.parse(words[1]), words[2]));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new UpgradePath(steps);
    }

    /**
     * The steps from one version to another, each the longest that does not overshoot.
     *
     * @throws IllegalStateException if some version on the way has no step
     */
    public List<Step> between(Version from, Version to) {
        List<Step> path = new ArrayList<>();
        for (Version at = from; at.compareTo(to) < 0; at = path.get(path.size() - 1).to()) {
            path.add(longestStep(at, to));
        }
        return path;
    }

    private Step longestStep(Version from, Version to) {
        return steps.stream()
                .filter(step -> step.from().equals(from) && step.to().compareTo(to) <= 0)
                .max(Comparator.comparing(Step::to))
                .orElseThrow(() -> new IllegalStateException("no upgrade from " + from + " towards " + to));
    }

    private static BufferedReader open(String resource) {
        InputStream in = UpgradePath.class.getResourceAsStream(resource);
        return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8));
    }

    /** One script and the versions that it leads from and to. */
    public record Step(Version from, Version to, String script) {

        public String sql() {
            try (BufferedReader in = open("/META-INF/db/" + script)) {
                return in.lines().collect(Collectors.joining("\n"));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
